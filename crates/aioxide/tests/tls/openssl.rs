//! rustls with another library at the other end: the command `openssl`, where there is one.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::tls::rustls::ProtocolVersion;
use aioxide::{StreamReader, StreamWriter};

use crate::common::World;
use crate::common::world::port_of;
use crate::paper::{Authority, VERSIONS, over, serving};

const LINE: &[u8] = b"hello, who are you?\n";

/// Whether there is an `openssl` on this machine; says so if not.
fn is_missing() -> bool {
    let version = Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status();
    let missing = !version.is_ok_and(|status| status.success());
    if missing {
        println!("skipped: there is no command openssl");
    }
    missing
}

/// A file that is removed when it is not needed any more.
struct Scratch(PathBuf);

impl Scratch {
    fn with(text: &str) -> Scratch {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("aioxide-tls-{}-{number}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn flag(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "-tls1_2",
        _ => "-tls1_3",
    }
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let mut lines = reader.lines();
    // The command does not always say that it leaves.
    while let Ok(Some(line)) = lines.next().await {
        writer.write(&line);
        writer.drain().await?;
    }
    Ok(())
}

#[test]
fn its_client_speaks_with_our_server() {
    if is_missing() {
        return;
    }
    World::epoll().run(async |world| {
        let authority = Authority::new();
        let root = Scratch::with(&authority.pem);
        let tls = authority.issue(&["localhost"]).server();
        let server = world
            .event_loop
            .start_server_with(echo, Some("127.0.0.1"), 0, &serving(&tls), DEFAULT_LIMIT)
            .await
            .unwrap();
        for version in VERSIONS {
            let mut command = Command::new("openssl");
            command
                .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
                .arg(format!("127.0.0.1:{}", port_of(&server)))
                .args(["-servername", "localhost", "-verify_hostname", "localhost"])
                .args(["-CAfile", root.path(), flag(version.version)])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut client = world
                .event_loop
                .create_subprocess_exec(&mut command)
                .await
                .unwrap();
            let input = client.stdin.take().unwrap();
            let mut output = client.stdout.take().unwrap();
            for _ in 0..3 {
                input.write(LINE);
                assert_eq!(output.readline().await.unwrap(), LINE);
            }
            client.kill().unwrap();
            client.wait().await;
            drop(input);
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn its_server_speaks_with_our_client() {
    if is_missing() {
        return;
    }
    World::epoll().run(async |world| {
        let authority = Authority::new();
        let paper = Scratch::with(&authority.issue(&["localhost"]).pem);
        for version in VERSIONS {
            let mut command = Command::new("openssl");
            command
                .args(["s_server", "-rev", "-accept", "127.0.0.1:0", "-alpn", "rev"])
                .args(["-cert", paper.path(), "-key", paper.path()])
                .arg(flag(version.version))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut server = world
                .event_loop
                .create_subprocess_exec(&mut command)
                .await
                .unwrap();
            let mut output = server.stdout.take().unwrap();
            let port = loop {
                let line = String::from_utf8(output.readline().await.unwrap()).unwrap();
                assert!(!line.is_empty(), "the server has said no port");
                if let Some((_, port)) = line.trim().rsplit_once(':')
                    && line.starts_with("ACCEPT")
                {
                    break port.parse().unwrap();
                }
            };
            let tls = authority
                .client_of(version, None)
                .with_server_name("localhost")
                .unwrap()
                .with_alpn_protocols(&["rev"]);
            let (mut reader, writer) = world
                .event_loop
                .open_connection_with("127.0.0.1", port, &over(&tls), DEFAULT_LIMIT)
                .await
                .unwrap();
            let info = writer.tls().unwrap();
            assert_eq!(info.version, Some(version.version));
            assert_eq!(info.alpn_protocol.as_deref(), Some(&b"rev"[..]));
            for _ in 0..3 {
                writer.write(LINE);
                let back = reader.readline().await.unwrap();
                assert_eq!(back, b"?uoy era ohw ,olleh\n");
            }
            writer.close();
            // It may have its own idea of a good end.
            let _ = writer.wait_closed().await;
            server.kill().unwrap();
            server.wait().await;
        }
    });
}
