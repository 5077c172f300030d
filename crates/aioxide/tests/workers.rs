//! Workers: loops on threads, and what they share: a port, and an end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{
    BindOptions, ReservedPort, ServerOptions, StreamReader, StreamWriter, Worker, WorkerError,
    Workers, running, spawn,
};

/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn workers(count: usize) -> Workers {
    Workers {
        count: NonZeroUsize::new(count),
        ..Workers::default()
    }
}

/// Waits to be told to stop.
async fn told(worker: &Worker) -> io::Result<()> {
    Ok(running()?.timeout(PATIENCE, worker.stopped()).await?)
}

/// Waits to be told to stop, and counts.
async fn wait(worker: &Worker, count: &AtomicUsize) -> io::Result<()> {
    told(worker).await?;
    count.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[test]
fn results_come_in_the_order_of_the_workers() {
    let results = workers(4).run(async |worker| {
        // Those that are first end last.
        let rest = worker.count().get() - worker.index();
        let shared = Rc::new(rest); // Nothing here needs to be Send.
        aioxide::sleep(Duration::from_millis(*shared as u64)).await?;
        Ok((worker.index(), thread::current().id()))
    });
    let (indices, threads): (Vec<_>, HashSet<_>) = results.unwrap().into_iter().unzip();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(threads.len(), 4);
}

#[test]
fn there_is_one_for_each_core() {
    let results = Workers::default().run(async |worker| Ok(worker.count()));
    let cores = thread::available_parallelism().unwrap();
    assert_eq!(results.unwrap(), vec![cores; cores.get()]);
}

#[test]
fn a_worker_that_is_pinned_has_one_core() {
    let allowed = aioxide::sys::cores::allowed().unwrap();
    let pinned = Workers {
        pin_to_cores: true,
        ..workers(allowed.len() + 1)
    };
    let cores = pinned.run(async |_| aioxide::sys::cores::allowed());
    let expected: Vec<_> = allowed.iter().map(|core| vec![*core]).collect();
    let cores = cores.unwrap();
    assert_eq!(cores[..allowed.len()], expected);
    assert_eq!(cores[allowed.len()], expected[0], "in turns");
    assert_eq!(aioxide::sys::cores::allowed().unwrap(), allowed, "ours");
}

#[test]
fn an_error_stops_the_others_and_is_returned() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let result = workers(3).run(async move |worker| match worker.index() {
        1 => Err(io::Error::new(io::ErrorKind::AddrInUse, "no port")),
        _ => wait(&worker, &count).await,
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), "worker 1: no port");
    let source = error
        .get_ref()
        .unwrap()
        .downcast_ref::<WorkerError>()
        .unwrap();
    assert_eq!(source.index, 1);
    assert_eq!(source.source().unwrap().to_string(), "no port");
    assert_eq!(stopped.load(Ordering::SeqCst), 2);
}

#[test]
fn a_panic_stops_the_others_and_is_an_error() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let result = workers(3).run(async move |worker| {
        if worker.index() == 2 {
            panic!("third");
        }
        wait(&worker, &count).await
    });
    assert_eq!(
        result.unwrap_err().to_string(),
        "worker 2: the task panicked: third"
    );
    assert_eq!(stopped.load(Ordering::SeqCst), 2);
}

#[test]
fn the_first_failure_is_the_one_that_is_returned() {
    let result = workers(2).run(async |worker| {
        if worker.index() == 0 {
            told(&worker).await?;
            assert!(worker.is_stopping());
            return Err::<(), _>(io::Error::other("second"));
        }
        assert!(!worker.is_stopping());
        Err(io::Error::other("first"))
    });
    assert_eq!(result.unwrap_err().to_string(), "worker 1: first");
}

#[test]
fn one_worker_shuts_all_of_them_down() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let result = workers(3).run(async move |worker| {
        if worker.index() == 0 {
            worker.shutdown();
        }
        wait(&worker, &count).await
    });
    assert_eq!(result.unwrap(), [(); 3]);
    assert_eq!(stopped.load(Ordering::SeqCst), 3);
}

#[test]
fn one_worker_that_ends_leaves_the_others() {
    let result = workers(2).run(async move |worker| {
        if worker.index() == 0 {
            return Ok(worker.is_stopping());
        }
        aioxide::sleep(Duration::from_millis(5)).await?;
        Ok(worker.is_stopping())
    });
    assert_eq!(result.unwrap(), [false, false]);
}

#[test]
fn another_thread_shuts_them_down() {
    let (handles, handle) = channel::<Worker>();
    let running = thread::spawn(move || {
        workers(2).run(async move |worker| {
            handles.send(worker.clone()).unwrap();
            wait(&worker, &AtomicUsize::new(0)).await
        })
    });
    let worker = handle.recv_timeout(PATIENCE).unwrap();
    let other = handle.recv_timeout(PATIENCE).unwrap();
    assert_eq!(worker.index() + other.index(), 1);
    worker.shutdown();
    running.join().unwrap().unwrap();
}

#[test]
fn every_task_of_a_worker_is_told() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let result = workers(2).run(async move |worker| {
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (worker, count) = (worker.clone(), Arc::clone(&count));
                spawn(async move { wait(&worker, &count).await })
            })
            .collect::<io::Result<_>>()?;
        // Somebody who loses interest is not waited for.
        let _ = running()?.timeout(Duration::ZERO, worker.stopped()).await;
        worker.shutdown();
        for task in tasks {
            task.await??;
        }
        // Told once, told for good.
        told(&worker).await
    });
    result.unwrap();
    assert_eq!(stopped.load(Ordering::SeqCst), 6);
}

#[test]
fn they_are_not_run_from_a_loop() {
    let refused = aioxide::run(async { workers(1).run(async |_| Ok(())) });
    assert!(
        refused
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("running loop")
    );
}

// ---- one port ----

/// Sends a worker's index back for each byte.
async fn serve(worker: Worker, port: u16, listening: Sender<Worker>) -> io::Result<usize> {
    let index = worker.index();
    let served = Rc::new(std::cell::Cell::new(0));
    let count = Rc::clone(&served);
    let client = async move |mut reader: StreamReader, writer: StreamWriter| {
        count.set(count.get() + 1);
        while reader.readexactly(1).await.is_ok() {
            writer.write(&[u8::try_from(index).unwrap()]);
            writer.drain().await?;
        }
        Ok(())
    };
    let options = ServerOptions {
        bind: BindOptions {
            reuse_port: true,
            ..BindOptions::default()
        },
        ..ServerOptions::default()
    };
    let server = running()?
        .start_server_with(client, Some("127.0.0.1"), port, &options, DEFAULT_LIMIT)
        .await?;
    listening.send(worker.clone()).map_err(io::Error::other)?;
    told(&worker).await?;
    server.close();
    running()?.timeout(PATIENCE, server.wait_closed()).await?;
    Ok(served.get())
}

/// The kernel chooses by a hash of both addresses, with a secret of its own: each connection is a toss.
/// That all of 64 go to the same one of two workers has a chance of 2 in 2^64, so a test that
/// fails has found something.
#[test]
fn the_kernel_spreads_connections_over_workers_that_share_a_port() {
    const CLIENTS: usize = 64;
    let port = ReservedPort::new((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let number = port.number();
    let (listening, listens) = channel();
    let running = thread::spawn(move || {
        workers(2).run(async move |worker| serve(worker, port.number(), listening.clone()).await)
    });
    let worker = [(); 2]
        .map(|()| listens.recv_timeout(PATIENCE).expect("both listen"))
        .into_iter()
        .next()
        .unwrap();

    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, number)).unwrap())
        .collect();
    let mut answers = [0_usize; 2];
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 2];
        // A connection stays with its worker.
        client.write_all(b"1").unwrap();
        client.read_exact(&mut answer[..1]).unwrap();
        client.write_all(b"2").unwrap();
        client.read_exact(&mut answer[1..]).unwrap();
        assert_eq!(answer[0], answer[1]);
        answers[usize::from(answer[0])] += 1;
    }
    worker.shutdown();
    drop(clients);
    let served = running.join().unwrap().unwrap();
    assert_eq!(served, answers, "as they have counted themselves");
    assert!(answers.iter().all(|count| *count > 0), "{answers:?}");
    assert_eq!(answers.iter().sum::<usize>(), CLIENTS);
}

#[test]
fn a_reserved_port_takes_no_connections() {
    let port = ReservedPort::new((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_ne!(port.number(), 0);
    assert_eq!(
        port.address().to_string(),
        format!("127.0.0.1:{}", port.number())
    );
    let address = (Ipv4Addr::LOCALHOST, port.number());
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // Nor does anybody get it who does not share.
    let taken = TcpListener::bind(address).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    let again = ReservedPort::new(address).unwrap();
    assert_eq!(again.number(), port.number());
    drop((port, again));
    TcpListener::bind(address).unwrap();
}

#[test]
fn a_port_is_reserved_for_ipv6_alone() {
    let Ok(port) = ReservedPort::new((Ipv6Addr::LOCALHOST, 0)) else {
        return; // A machine without IPv6.
    };
    assert_eq!(
        port.address().to_string(),
        format!("[::1]:{}", port.number())
    );
}
