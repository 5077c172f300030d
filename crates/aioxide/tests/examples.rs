//! The examples, run as processes, with their output checked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A line that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the examples are; they are built if they were not.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // target/PROFILE/deps/examples-HASH
        let this = std::env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--examples", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
        profile.join("examples")
    })
}

/// A program that runs, until it is dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> Program {
        Program::spawn(Command::new(directory().join(name)).args(arguments))
    }

    fn spawn(command: &mut Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Program { child, lines }
    }

    /// A server on a port of the kernel's choice, which it prints.
    fn serve(name: &str) -> (Program, String) {
        let server = Program::start(name, &["0"]);
        let line = server.line();
        let (_, port) = line.rsplit_once(':').expect("an address");
        let port = port.to_owned();
        (server, port)
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Says something to its input.
    fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The lines until it ends by itself, successfully.
    fn finish(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        lines
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever stands after the last occurrence of `before`.
fn after<'a>(line: &'a str, before: &str) -> &'a str {
    line.rsplit_once(before).expect(before).1
}

#[test]
fn a_server_on_sockets_hears_quit() {
    let (server, port) = Program::serve("sock_quit_server");
    let mut client = Program::start("sock_quit_client", &[&port]);
    assert_eq!(client.line(), "got message");
    let connected = server.line();
    let peer = after(&connected, "connected to client: ").to_owned();
    let from_client = |text| format!("got from {peer}: {text}");
    assert_eq!(
        server.line(),
        from_client("ack from client connect success")
    );
    client.say("hello world\n");
    assert_eq!(server.line(), from_client("hello world"));
    assert_eq!(client.line(), "got message from server: got message");
    client.say("quit\n");
    assert_eq!(server.line(), from_client("quit"));
    assert_eq!(client.finish(), [""; 0]);
}

#[test]
fn an_echo_with_protocols() {
    let (server, port) = Program::serve("protocol_echo_server");
    let client = Program::start("protocol_echo_client", &[&port]).finish();
    let expected = [
        "Data sent: Hello World!",
        "Data received: Hello World!",
        "The server closed the connection",
    ];
    assert_eq!(client, expected);
    assert!(server.line().starts_with("Connection from 127.0.0.1:"));
    let expected = [
        "Data received: Hello World!",
        "Send: Hello World!",
        "Close the client socket",
    ];
    assert_eq!([(); 3].map(|()| server.line()), expected);
}

#[test]
fn an_echo_in_parts_answers_the_end() {
    let (server, port) = Program::serve("parts_echo_server");
    let client = Program::start("parts_echo_client", &[&port]).finish();
    let (sent, received) = client.split_at(4);
    assert_eq!(
        sent[0],
        format!("EchoClient: connected to 127.0.0.1:{port}")
    );
    assert_eq!(sent[1], "EchoClient: sending \"This is the message. \"");
    let (text, end) = received.split_at(received.len() - 2);
    let text: String = text
        .iter()
        .map(|line| after(line, "received ").trim_matches('"'))
        .collect();
    assert_eq!(text, "This is the message. It will be sent in parts.");
    let expected = [
        "EchoClient: received EOF",
        "EchoClient: server closed connection",
    ];
    assert_eq!(end, expected);
    assert!(server.line().ends_with(": connection accepted"));
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "closing") {
        lines.push(after(&server.line(), ": ").to_owned());
    }
    assert_eq!(lines[lines.len() - 2..], ["received EOF", "closing"]);
}

#[test]
fn an_echo_with_streams() {
    let (server, port) = Program::serve("streams_echo_server");
    let client = Program::start("streams_echo_client", &[&port]).finish();
    let expected = [
        "Send: \"Hello World!\"",
        "Received: \"Hello World!\"",
        "Close the connection",
    ];
    assert_eq!(client, expected);
    assert!(
        server
            .line()
            .starts_with("Received \"Hello World!\" from 127.0.0.1:")
    );
    assert_eq!(server.line(), "Send: \"Hello World!\"");
    assert_eq!(server.line(), "Close the connection");
}

#[test]
fn an_echo_on_a_unix_socket() {
    let name = format!("aioxide-example-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let path = path.to_str().unwrap();
    let server = Program::start("unix_echo_server", &[path]);
    assert_eq!(server.line(), format!("Serving on {path}"));
    let client = Program::start("unix_echo_client", &[path]).finish();
    let expected = [
        "Send: \"Hello\"",
        "Received: \"Hello\"",
        "Send: \"World!\"",
        "Received: \"World!\"",
        "Close the connection",
    ];
    assert_eq!(client, expected);
    let expected = [
        "Received \"Hello\"",
        "Received \"World!\"",
        "Close the connection",
    ];
    assert_eq!([(); 3].map(|()| server.line()), expected);
    drop(server);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_demo_shows_what_passed() {
    let (server, port) = Program::serve("echo_server");
    let client = Program::start("echo_client", &[&port]).finish();
    let expected = [
        r#"sent     "hello\n""#,
        r#"received "hello\n""#,
        r#"sent     "from Rust\n""#,
        r#"received "from Rust\n""#,
        r#"sent     "goodbye\n""#,
        r#"received "goodbye\n""#,
        "the server closed the connection, 0 bytes were left",
    ];
    assert_eq!(client, expected);
    let shown = [(); 8].map(|()| after(&server.line(), "] ").to_owned());
    assert_eq!(
        shown[..3],
        ["connected", r#"-> "hello\n""#, r#"<- "hello\n""#]
    );
    assert_eq!(shown[7], "closed");
}

/// A client of a server that sends everything back.
struct Client(TcpStream);

impl Client {
    fn connect(port: &str) -> Client {
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    fn exchange(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; text.len()];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text.as_bytes());
    }
}

#[test]
fn a_signal_ends_a_server_gently() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let (server, port) = Program::serve("signals");
        let mut client = Client::connect(&port);
        client.exchange("before");
        server.signal(signal);
        assert_eq!(server.line(), format!("Received {name}"));
        assert_eq!(server.line(), "No new clients, but 1 to finish");
        let refused = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        client.exchange("after");
        drop(client);
        assert_eq!(server.finish(), ["The last client has gone"]);
    }
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let (mut server, port) = Program::serve("signals");
    let mut client = Client::connect(&port);
    client.exchange("before");
    server.signal(Signal::INT);
    assert_eq!(server.line(), "Received SIGINT");
    assert_eq!(server.line(), "No new clients, but 1 to finish");
    server.signal(Signal::TERM);
    let end = server.lines.recv_timeout(PATIENCE).unwrap_err();
    assert_eq!(end, RecvTimeoutError::Disconnected);
    let status = server.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn workers_share_a_port_and_end_together() {
    let server = Program::start("echo_workers", &["0", "2"]);
    let serving = [(); 2].map(|()| server.line());
    let ports = serving.map(|line| after(&line, ":").to_owned());
    assert_eq!(ports[0], ports[1]);
    // Each connection is as good as tossed: that all of them have the same worker has a chance of
    // 2 in 2^64.
    let mut clients: Vec<_> = (0..64).map(|_| Client::connect(&ports[0])).collect();
    for client in &mut clients {
        client.exchange("hello");
    }
    let workers: BTreeSet<_> = clients.iter().map(|_| server.line()).collect();
    assert_eq!(
        Vec::from_iter(&workers),
        ["Worker 0 has a client", "Worker 1 has a client"]
    );
    server.signal(Signal::TERM);
    drop(clients);
    let mut ended = server.finish();
    ended.sort();
    assert_eq!(ended, ["Worker 0 has ended", "Worker 1 has ended"]);
}

#[test]
fn ten_futures_are_completed() {
    let lines = Program::start("ten_futures", &[]).finish();
    let set = (0..10).map(|number| format!("set_result({number})"));
    let done = (0..10).map(|number| format!("done: {number}: <Future finished>"));
    let expected: Vec<_> = set.chain(done).chain(["sum: 45".to_owned()]).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_multicast_group_hears_what_is_said_to_it() {
    let (listener, port) = Program::serve("multicast_listener");
    let sender = Program::start("multicast_sender", &[&port]).finish();
    let group = format!("239.255.77.1:{port}");
    let said = ["hello", "goodbye"].map(|word| format!("Send {word:?} to {group}"));
    assert_eq!(sender, said);
    let heard = listener.finish();
    let from = "from 127.0.0.1";
    let heard = heard.iter().map(|line| line.rsplit_once(':').unwrap().0);
    let expected = ["hello", "goodbye"].map(|word| format!("{word:?} {from}"));
    assert_eq!(heard.collect::<Vec<_>>(), expected);
}

#[test]
fn an_echo_with_datagrams() {
    let lines = Program::start("udp_echo", &[]).finish();
    let mut expected = Vec::new();
    for word in ["once", "twice"] {
        expected.push(format!("Client: send {word:?}"));
        expected.push(format!("Server: {word:?}"));
        expected.push(format!("Client: received {word:?}"));
    }
    expected.push("Client: closed".to_owned());
    assert_eq!(lines, expected);
}

#[test]
fn a_command_is_run_and_its_lines_are_printed() {
    let text = "echo one; echo; echo three; exit 3";
    let lines = Program::start("subprocess", &["/bin/sh", "-c", text]).finish();
    assert_eq!(lines, ["1: one", "2: ", "3: three", "exit status: 3"]);
}

#[test]
fn lines_pass_through_pipes() {
    let mut program = Program::start("pipes", &[]);
    for (said, heard) in [("hello\n", "HELLO"), ("pipes\n", "PIPES")] {
        program.say(said);
        assert_eq!(program.line(), heard);
    }
    program.say("no end of line");
    drop(program.child.stdin.take());
    assert_eq!(program.finish(), ["NO END OF LINE"]);
}

#[test]
fn a_file_is_sent_to_each_client() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/sendfile.rs");
    let server = Program::start("sendfile", &[path, "0"]);
    let line = server.line();
    let address = after(&line, "Serving on ");
    let file = std::fs::read_to_string(path).unwrap();
    for _ in 0..2 {
        let mut received = String::new();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_to_string(&mut received).unwrap();
        assert_eq!(received, format!("{}\n{file}", file.len()));
        assert_eq!(server.line(), format!("sent {} bytes", file.len()));
    }
}

/// A server that answers any request, as `python -m http.server` does. The kernel chooses its port.
fn http_server() -> (Program, String) {
    let program = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), \
                   type('H', (h.BaseHTTPRequestHandler,), {'do_GET': lambda r: (\
                   r.send_response(200), r.send_header('Content-Length', '14'), \
                   r.end_headers(), r.wfile.write(b'Hello, World!\\n'))})); \
                   print('Serving on 127.0.0.1:%d' % s.server_port, flush=True); \
                   s.serve_forever()";
    let mut python = Command::new("python3");
    let server = Program::spawn(python.args(["-c", program]).stderr(Stdio::null()));
    let port = after(&server.line(), ":").to_owned();
    (server, port)
}

#[test]
fn http_is_got_in_three_ways() {
    let (_server, port) = http_server();
    for name in [
        "http_get_protocol",
        "http_get_own_streams",
        "http_get_streams",
    ] {
        let lines = Program::start(name, &["localhost", &port]).finish();
        assert_eq!(
            lines.first().map(String::as_str),
            Some("HTTP/1.0 200 OK"),
            "{name}"
        );
        assert_eq!(
            lines.last().map(String::as_str),
            Some("Hello, World!"),
            "{name}"
        );
    }
}

/// A file of this name, for this process alone; removed in the end.
#[cfg(feature = "rustls")]
struct Scratch(PathBuf);

#[cfg(feature = "rustls")]
impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("aioxide-examples-{}-{name}", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

#[cfg(feature = "rustls")]
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(feature = "rustls")]
#[test]
fn an_echo_over_tls() {
    let certificate = Scratch::new("certificate.pem");
    let server = Program::start("tls_echo_server", &["0", certificate.path()]);
    let serving = server.line();
    let port = after(&serving, ":");
    let lines = Program::start("tls_echo_client", &[port, certificate.path()]).finish();
    assert_eq!(
        lines,
        [
            "Some(TLSv1_3), Some(TLS13_AES_256_GCM_SHA384)",
            "Received: Hello, in secret!"
        ]
    );
    assert_eq!(server.line(), "A client has called Some(\"localhost\")");
    assert_eq!(server.line(), "It has left");
}

/// What a program says when it ends at once, and badly; and with which status.
#[cfg(feature = "rustls")]
fn complaint(name: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(directory().join(name));
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (said, output.status.code())
}

#[cfg(feature = "rustls")]
#[test]
fn tls_programs_say_what_they_need() {
    for (name, arguments, usage) in [
        ("tls_echo_client", &[][..], "port [certificate.pem]"),
        ("tls_echo_client", &["no port"], "port [certificate.pem]"),
        ("tls_echo_server", &["no port"], "[port [certificate.pem]]"),
        (
            "https_get",
            &["localhost", "no port"],
            "[host [port [roots.pem]]]",
        ),
    ] {
        let expected = format!("usage: {name} {usage}\n");
        assert_eq!(complaint(name, arguments), (expected, Some(2)));
    }
    let file = Scratch::new("missing.pem");
    for (name, arguments) in [
        ("tls_echo_client", &["1", file.path()][..]),
        ("https_get", &["localhost", "1", file.path()]),
    ] {
        let (said, status) = complaint(name, arguments);
        assert_eq!(status, Some(1));
        assert!(said.contains(file.path()), "{said}");
    }
    // It is there, but it is none.
    std::fs::write(&file.0, "garbage").unwrap();
    let (said, _) = complaint("tls_echo_client", &["1", file.path()]);
    let expected = format!("{}: there are no root certificates", file.path());
    assert!(said.contains(&expected), "{said}");
}

/// An HTTPS server on a thread of its own, its port, and what to trust.
#[cfg(feature = "rustls")]
fn https_server(roots: &Scratch) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(&roots.0, &pem).unwrap();
    let answer = async |mut reader: aioxide::StreamReader, writer: aioxide::StreamWriter| {
        reader.readuntil(b"\r\n\r\n").await?;
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nHello, in secret!\n");
        Ok(())
    };
    let (sender, port) = channel();
    std::thread::spawn(move || {
        aioxide::run(async move {
            let tls = aioxide::ServerTls::with_pem(pem.as_bytes(), key.as_bytes()).unwrap();
            let options = aioxide::ServerOptions {
                tls: Some(tls.with_alpn_protocols(&["http/1.1"])),
                ..aioxide::ServerOptions::default()
            };
            let server = aioxide::running()
                .unwrap()
                .start_server_with(answer, Some("localhost"), 0, &options, 1000)
                .await
                .unwrap();
            let port = server.local_addresses()[0].port().unwrap();
            sender.send(port.to_string()).unwrap();
            server.serve_forever().await
        })
    });
    port.recv_timeout(PATIENCE).unwrap()
}

#[cfg(feature = "rustls")]
#[test]
fn https_is_got() {
    let roots = Scratch::new("roots.pem");
    let port = https_server(&roots);
    let lines = Program::start("https_get", &["localhost", &port, roots.path()]).finish();
    assert_eq!(lines.first().map(String::as_str), Some("HTTP/1.0 200 OK"));
    assert_eq!(lines.last().map(String::as_str), Some("Hello, in secret!"));
}

#[test]
fn hyper_serves_http() {
    let (server, port) = Program::serve("hyper_server");
    let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // Two requests on one connection, and then no more.
    for (path, connection) in [("/one", "keep-alive"), ("/two", "close")] {
        write!(
            client,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n"
        )
        .unwrap();
        assert_eq!(server.line(), format!("GET {path}"));
    }
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(answers.contains("Hello from /one\n") && answers.ends_with("Hello from /two\n"));
}
