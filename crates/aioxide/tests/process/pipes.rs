//! The transports of a process's pipes: flow control both ways, and their ends.

use aioxide::WaterMarks;

use crate::common::World;
use crate::common::world::pattern;
use crate::diary::{end_input, piped, script, start};

/// More than all pipes and buffers on the way hold.
const MUCH: usize = 4 << 20;

#[test]
fn writing_pauses_when_the_process_does_not_read_and_resumes_when_it_does() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        let input = process.pipe_transport(0).unwrap();
        let output = process.pipe_transport(1).unwrap();
        // cat waits for its reader, and so does not read.
        output.pause_reading();
        input.write(&pattern(MUCH));
        assert_eq!(diary.events(), ["made", "pause"]);
        assert!(input.write_buffer_size() > WaterMarks::default().high());
        world.turns(5).await;
        assert!(
            !diary.has("out") && !diary.has("resume"),
            "{:?}",
            diary.events()
        );
        output.resume_reading();
        diary.until("resume").await;
        assert_eq!(input.write_buffer_size(), 0);
        diary.received(1, MUCH).await;
        assert!(diary.data(1) == pattern(MUCH));
        end_input(&process);
        diary.until("lost").await;
        assert_eq!((diary.code(), diary.errors()), (Some(0), vec![]));
    });
}

#[test]
fn a_paused_output_loses_nothing_and_its_end_comes_when_it_is_read() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("echo all; exit 0")).await;
        let output = process.pipe_transport(1).unwrap();
        output.pause_reading();
        diary.until("exited").await;
        world.turns(3).await;
        assert!(
            !diary.has("out") && !diary.has("lost"),
            "{:?}",
            diary.events()
        );
        output.resume_reading();
        diary.until("lost").await;
        assert_eq!(diary.text(1), "all");
    });
}

#[test]
fn the_end_of_the_input_follows_what_was_written() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        let input = process.pipe_transport(0).unwrap();
        assert!(input.can_write_eof() && !input.is_reading());
        input.write(&pattern(MUCH));
        input.write_eof().unwrap();
        assert!(input.is_closing());
        diary.until("lost").await;
        assert!(diary.data(1) == pattern(MUCH));
        assert!(input.is_lost());
    });
}

#[test]
fn a_process_that_closes_its_input_is_told_of() {
    World::epoll().run(async |world| {
        let text = "exec <&-; echo closed; exec >&-; exec sleep 60";
        let (process, diary) = start(&world, &mut script(text)).await;
        let input = process.pipe_transport(0).unwrap();
        diary.until("lost in").await;
        assert_eq!((process.status(), diary.errors()), (None, vec![]));
        input.write(b"nobody reads this");
        assert!(input.is_lost());
        process.kill().unwrap();
        diary.until("lost").await;
    });
}

#[test]
fn what_a_process_never_reads_is_an_error_of_the_pipe() {
    World::epoll().run(async |world| {
        let text = "echo ready; read line; exit 0";
        let (process, diary) = start(&world, &mut script(text)).await;
        let input = process.pipe_transport(0).unwrap();
        diary.until("out").await;
        input.write(&vec![b'\n'; MUCH]);
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(0));
        assert_eq!(
            diary.errors(),
            [(0, std::io::ErrorKind::BrokenPipe.to_string())]
        );
    });
}

#[test]
fn an_output_that_is_closed_breaks_the_pipe_of_the_process() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        let [input, output] = [0, 1].map(|number| process.pipe_transport(number).unwrap());
        output.close();
        diary.until("lost out").await;
        // More than once: for a moment, other tests' forks hold the output's end too.
        while !diary.has("exited") {
            input.write(b"x");
            world.turns(1).await;
        }
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(-libc::SIGPIPE));
    });
}

#[test]
fn writing_to_an_output_is_a_mistake() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        let output = process.pipe_transport(1).unwrap();
        assert!(!output.can_write_eof());
        let refused = output.write_eof().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
        output.write(b"x");
        let reports = world.reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].starts_with("Bytes were written to the reading end"));
        end_input(&process);
        diary.until("lost").await;
    });
}

#[test]
fn the_transports_of_lost_pipes_are_kept() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("exit 0")).await;
        diary.until("lost").await;
        for number in 0..3 {
            let pipe = process.pipe_transport(number).unwrap();
            assert!(pipe.is_lost() && pipe.fd().is_none(), "{number}");
        }
        assert!(process.pipe_transport(3).is_none());
        assert!(process.process_protocol().is_none());
    });
}
