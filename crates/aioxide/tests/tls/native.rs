//! Rust's front door: `ConnectOptions::tls`, `ServerOptions::tls`, `start_tls`, over rustls.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::tls::rustls;
use aioxide::tls::rustls::{CertificateError, CipherSuite, ProtocolVersion};
use aioxide::{ClientTls, Protocol, TlsTimeouts, Transport};

use crate::common::world::{pattern, port_of};
use crate::common::{Log, Recorder, World};
use crate::echo::{connect, end, serve};
use crate::paper::{Authority, Paper, VERSIONS, over, papers, serving};

crate::on_every_network!(
    bytes_come_back_as_they_were,
    both_ends_know_what_was_negotiated,
    a_refused_certificate_is_told_with_its_reason,
    a_name_that_no_certificate_has_is_refused_at_once,
    a_session_is_resumed,
    garbage_costs_nobody_anything,
    an_end_without_a_close_is_told,
    a_changed_byte_ends_the_connection,
    a_connect_that_nobody_waits_for_any_more_is_closed,
    a_connection_is_upgraded,
    a_protocol_in_common_is_needed,
    nothing_is_kept_of_a_connection_that_is_over,
    a_small_fragment_size_is_no_limit;
    calm: much_passes_both_ways_at_once,
);

fn bytes_come_back_as_they_were(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        for version in VERSIONS {
            let log = Log::default();
            let tls = authority.client_of(version, None);
            let client = connect(&world, port, &tls, &log).await.unwrap();
            assert_eq!(log.events(), ["made"]);
            assert!(client.is(&log.transport()));
            let mut sent = 0;
            let large = if world.has_moods() { 200 } else { 40_000 };
            for size in [1, 100, 16_385, large] {
                client.write(&pattern(size));
                sent += size;
                log.received(sent).await;
                assert!(log.data()[sent - size..] == pattern(size));
            }
            client.close();
            log.until("lost").await;
            assert_eq!(
                (log.events(), log.error()),
                (vec!["made", "data", "eof", "lost"], None)
            );
        }
        at_server.when(|log| log.count("lost") == 2).await;
        assert_eq!(at_server.error(), None);
        end(server).await;
    });
}

fn much_passes_both_ways_at_once(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        let log = Log::default();
        let client = connect(&world, port, &authority.client(), &log).await;
        let client = client.unwrap();
        let bytes = pattern(3 << 20);
        for piece in bytes.chunks(100_000) {
            client.write(piece);
        }
        log.received(bytes.len()).await;
        assert!(*log.data() == bytes);
        client.close();
        log.until("lost").await;
        end(server).await;
    });
}

fn both_ends_know_what_was_negotiated(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let tls = tls.with_alpn_protocols(&["h2", "http/1.1"]);
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        let log = Log::default();
        let tls = authority
            .client()
            .with_server_name("localhost")
            .unwrap()
            .with_alpn_protocols(&["http/1.1", "http/1.0"]);
        let client = connect(&world, port, &tls, &log).await.unwrap();
        at_server.until("made").await;
        let (ours, theirs) = (client.tls().unwrap(), at_server.transport().tls().unwrap());
        for info in [&ours, &theirs] {
            assert_eq!(info.version, Some(ProtocolVersion::TLSv1_3));
            assert_eq!(
                info.cipher_suite,
                Some(CipherSuite::TLS13_AES_256_GCM_SHA384)
            );
            assert_eq!(info.alpn_protocol.as_deref(), Some(&b"http/1.1"[..]));
            assert!(!info.resumed);
        }
        assert_eq!(ours.server_name, None);
        assert_eq!(ours.peer_certificates.len(), 1);
        assert_eq!(theirs.server_name.as_deref(), Some("localhost"));
        assert_eq!(theirs.peer_certificates, []);
        client.close();
        log.until("lost").await;
        assert_eq!(client.tls(), Some(ours), "afterwards too");
        end(server).await;
        let (server, port) = world.serve(Recorder::default).await;
        let plain = world.connect(port, Recorder::default()).await;
        assert_eq!(plain.tls(), None);
        plain.abort();
        end(server).await;
    });
}

fn reason(error: &io::Error) -> rustls::Error {
    let source = error.source().expect("rustls's error is inside");
    source.downcast_ref::<rustls::Error>().unwrap().clone()
}

fn a_refused_certificate_is_told_with_its_reason(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let stranger = Authority::new();
        let here = ["127.0.0.1"];
        let refused: [(Paper, &str); 5] = [
            (
                stranger.issue(&here),
                "the peer's certificate was refused: nobody who is trusted has issued it",
            ),
            (
                authority.issue(&["example.org"]),
                "the peer's certificate was refused: it is not for 127.0.0.1, but for example.org",
            ),
            (
                authority.issue_between(&here, 2000, 2001),
                "the peer's certificate was refused: it has expired, ",
            ),
            (
                authority.issue_between(&here, 3000, 3001),
                "the peer's certificate was refused: it is not valid yet, but in ",
            ),
            (
                authority.paper(),
                "the peer's certificate was refused: it is an authority's own certificate (CA:TRUE)",
            ),
        ];
        for (paper, expected) in refused {
            let at_server = Log::default();
            let (server, port) = serve(&world, &paper.server(), &at_server).await;
            let log = Log::default();
            let connected = connect(&world, port, &authority.client(), &log).await;
            let error = connected.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(format!("{error:?}").contains(expected), "{error:?}");
            let reason = reason(&error);
            assert!(
                matches!(reason, rustls::Error::InvalidCertificate(_)),
                "{reason:?}"
            );
            while server.client_count() > 0 {
                world.turns(1).await;
            }
            assert_eq!((log.events(), at_server.events()), (vec![], vec![]));
            end(server).await;
        }
        // What was refused is no secret either: the error is in the form that programs compare.
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_ne!(unknown, rustls::Error::HandshakeNotComplete);
    });
}

fn a_name_that_no_certificate_has_is_refused_at_once(world: World) {
    world.run(async |world| {
        let (authority, _) = papers();
        let options = over(&authority.client());
        let connecting =
            world
                .event_loop
                .create_connection(Recorder::default, "no name at all", 1, &options);
        let error = connecting.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no name at all"), "{error}");
    });
}

fn a_session_is_resumed(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        for version in VERSIONS {
            let tls = authority.client_of(version, None);
            for resumed in [false, true, true] {
                let log = Log::default();
                // A clone is the same client.
                let client = connect(&world, port, &tls.clone(), &log).await.unwrap();
                client.write(b"abc");
                log.received(3).await;
                assert_eq!(client.tls().unwrap().resumed, resumed);
                let theirs = at_server.transport().tls().unwrap();
                assert_eq!(theirs.resumed, resumed);
                client.close();
                log.until("lost").await;
            }
        }
        end(server).await;
    });
}

fn garbage_costs_nobody_anything(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            &[0; 100],
            &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
            &[22, 3, 1, 255, 255],
            &[23, 3, 3, 0, 1, 0],
        ] {
            let peer = world.peer(port).await;
            let _ = world.event_loop.sock_sendall(&peer, garbage).await;
            let _ = world.event_loop.reactor().shutdown_write(peer.fd());
            while let Ok(bytes) = world.event_loop.sock_recv(&peer, 1000).await
                && !bytes.is_empty()
            {}
            while server.client_count() > 0 {
                world.turns(1).await;
            }
        }
        assert!(at_server.events().is_empty());
        let log = Log::default();
        let client = connect(&world, port, &authority.client(), &log).await;
        client.unwrap().close();
        log.until("lost").await;
        end(server).await;
    });
}

fn an_end_without_a_close_is_told(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        let log = Log::default();
        let client = connect(&world, port, &authority.client(), &log).await;
        let client = client.unwrap();
        client.write(b"abc");
        log.received(3).await;
        let fd = client.fd().unwrap();
        world.event_loop.reactor().shutdown_write(fd).unwrap();
        at_server.until("lost").await;
        assert_eq!(at_server.events(), ["made", "data", "eof", "lost"]);
        let error = at_server.error().unwrap();
        assert!(error.contains("close_notify"), "{error}");
        log.until("lost").await;
        end(server).await;
    });
}

/// Passes on what comes, but for one byte.
#[derive(Clone)]
struct Tamperer {
    other: Rc<RefCell<Option<Transport>>>,
    me: Rc<RefCell<Option<Transport>>>,
    /// How many bytes pass until one is changed.
    spare: Option<usize>,
    passed: usize,
}

impl Protocol for Tamperer {
    fn connection_made(&mut self, transport: Transport) {
        self.me.replace(Some(transport));
    }

    fn data_received(&mut self, data: &[u8]) {
        let mut data = data.to_vec();
        if let Some(spare) = self.spare
            && let Some(at) = spare.checked_sub(self.passed)
            && let Some(byte) = data.get_mut(at)
        {
            *byte ^= 1;
        }
        self.passed += data.len();
        if let Some(other) = &*self.other.borrow() {
            other.write(&data);
        }
    }

    fn connection_lost(&mut self, _: Option<io::Error>) {
        if let Some(other) = self.other.take() {
            other.close();
        }
        self.me.take();
    }
}

fn a_changed_byte_ends_the_connection(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        // The hello, the certificates, and what is said after the handshake.
        for spare in [3, 50, 300, 700, 4000] {
            let at_server = Log::default();
            let (server, port) = serve(&world, &tls, &at_server).await;
            let (near, far) = (Rc::default(), Rc::default());
            let towards = Tamperer {
                other: Rc::clone(&near),
                me: Rc::clone(&far),
                spare: Some(spare),
                passed: 0,
            };
            let back = Tamperer {
                other: Rc::clone(&far),
                me: Rc::clone(&near),
                spare: None,
                passed: 0,
            };
            world.connect(port, towards).await;
            let (between, middle) = world.serve(move || back.clone()).await;
            let log = Log::default();
            match connect(&world, middle, &authority.client(), &log).await {
                Err(error) => assert!(error.to_string().len() > 10, "{error}"),
                Ok(client) => {
                    client.write(&pattern(10_000));
                    log.until("lost").await;
                    assert!(log.data().len() < 10_000);
                    assert!(log.error().is_some());
                }
            }
            end(between).await;
            end(server).await;
        }
    });
}

fn a_connect_that_nobody_waits_for_any_more_is_closed(world: World) {
    world.run(async |world| {
        let (authority, _) = papers();
        let (listener, address) = world.listener();
        let port = address.port().unwrap();
        let options = over(&authority.client());
        let event_loop = world.event_loop.clone();
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let connecting = world.event_loop.spawn(async move {
            event_loop
                .create_connection(|| recorder, "127.0.0.1", port, &options)
                .await
        });
        let (peer, _) = world.event_loop.sock_accept(&listener).await.unwrap();
        // Its hello has come: it waits for an answer.
        world.read_exactly(&peer, 5).await;
        connecting.cancel();
        while !world.read_all(&peer).await.is_empty() {}
        assert!(log.events().is_empty());
    });
}

fn a_connection_is_upgraded(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let (at_server, at_client) = (Log::default(), Log::default());
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let plain = world.connect(port, Recorder::new(&at_client)).await;
        at_server.until("made").await;
        let (secret, answer) = (Log::default(), Log::default());
        let (event_loop, recorder) = (world.event_loop.clone(), Recorder::echo(&secret));
        let transport = at_server.transport();
        let accepting = world
            .event_loop
            .spawn(async move { event_loop.start_tls(&transport, recorder, tls).await });
        let nameless = world
            .event_loop
            .start_tls(&plain, Recorder::default(), authority.client())
            .await;
        let error = nameless.unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidInput,
            "nothing was done"
        );
        let tls = authority.client().with_server_name("localhost").unwrap();
        let client = world
            .event_loop
            .start_tls(&plain, Recorder::new(&answer), tls.clone())
            .await
            .unwrap();
        assert_eq!(answer.events(), ["made"]);
        assert!(client.is(&answer.transport()) && !client.is(&plain));
        client.write(b"between us");
        answer.received(10).await;
        let accepted = accepting.await.unwrap().unwrap();
        let info = accepted.tls().unwrap();
        assert_eq!(info.server_name.as_deref(), Some("localhost"));
        client.close();
        secret.until("lost").await;
        answer.until("lost").await;
        assert_eq!(
            (at_server.events(), at_client.events()),
            (vec!["made"], vec!["made"])
        );
        let late = world
            .event_loop
            .start_tls(&client, Recorder::default(), tls)
            .await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::NotConnected);
        end(server).await;
    });
}

fn a_protocol_in_common_is_needed(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let tls = tls.with_alpn_protocols(&["h2"]);
        let (server, port) = serve(&world, &tls, &Log::default()).await;
        let tls = authority.client().with_alpn_protocols(&["smtp"]);
        let error = connect(&world, port, &tls, &Log::default()).await;
        let error = error.unwrap_err().to_string();
        // Where there was room for the alert.
        let reset = world.has_moods() && error.contains("reset");
        assert!(
            error.contains("none of the application protocols") || reset,
            "{error}"
        );
        end(server).await;
    });
}

fn nothing_is_kept_of_a_connection_that_is_over(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let token = Rc::new(());
        let (client_tls, stranger) = (authority.client(), Authority::new().client());
        let config = Rc::new(client_tls);
        for tls_of_client in [&*config, &stranger] {
            let kept = Rc::clone(&token);
            let at_server = Log::default();
            let recorder = Recorder {
                greet: Some(Rc::new(move |_: &Transport| {
                    let _ = &kept;
                })),
                ..Recorder::echo(&at_server)
            };
            let factory = move || recorder.clone();
            let server = world
                .event_loop
                .create_server(factory, Some("127.0.0.1"), 0, &serving(&tls))
                .await
                .unwrap();
            let port = port_of(&server);
            let (kept, log) = (Rc::clone(&token), Log::default());
            let recorder = Recorder {
                greet: Some(Rc::new(move |_: &Transport| {
                    let _ = &kept;
                })),
                ..Recorder::new(&log)
            };
            let options = over(tls_of_client);
            let connected = world
                .event_loop
                .create_connection(|| recorder, "127.0.0.1", port, &options)
                .await;
            if let Ok(client) = connected {
                client.write(b"abc");
                log.received(3).await;
                client.close();
                log.until("lost").await;
            }
            while server.client_count() > 0 {
                world.turns(1).await;
            }
            end(server).await;
        }
        world.turns(3).await;
        assert_eq!(Rc::strong_count(&token), 1);
        assert_eq!(std::sync::Arc::strong_count(stranger.config()), 1);
    });
}

fn a_small_fragment_size_is_no_limit(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        let mut config = (**authority.client().config()).clone();
        config.max_fragment_size = Some(100);
        let log = Log::default();
        let client = connect(&world, port, &config.into(), &log).await.unwrap();
        client.write(&pattern(20_000));
        log.received(20_000).await;
        assert!(*log.data() == pattern(20_000));
        client.close();
        log.until("lost").await;
        end(server).await;
    });
}

/// Virtual time.
#[test]
fn a_handshake_has_its_time_on_both_sides() {
    World::simulated(0).run(async |world| {
        let (authority, tls) = papers();
        let timeouts = TlsTimeouts {
            handshake: Duration::from_secs(3),
            ..TlsTimeouts::default()
        };
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls.with_timeouts(timeouts), &at_server).await;
        let begun = world.event_loop.time();
        let silent = world.peer(port).await;
        world.read_all(&silent).await;
        let took = world.event_loop.time() - begun;
        assert!(took >= timeouts.handshake && took < timeouts.handshake * 2);
        end(server).await;

        let (_listener, address) = world.listener();
        let port = address.port().unwrap();
        let tls = authority.client().with_timeouts(timeouts);
        let error = connect(&world, port, &tls, &Log::default()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(
            error.to_string().contains("longer than 3.0 seconds"),
            "{error}"
        );
    });
}

#[test]
fn sockets_of_ones_own_and_unix_sockets_have_tls_too() {
    World::epoll().run(async |world| {
        let (authority, tls) = papers();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (at_server, at_client) = (Log::default(), Log::default());
        let (event_loop, recorder) = (world.event_loop.clone(), Recorder::echo(&at_server));
        let server_tls = tls.clone();
        let accepted = world.event_loop.spawn(async move {
            event_loop
                .connect_accepted_socket_tls(|| recorder, theirs, &server_tls)
                .await
        });
        let plain = world
            .event_loop
            .connect_accepted_socket(Recorder::default, ours)
            .await
            .unwrap();
        let client_tls = authority.client().with_server_name("localhost").unwrap();
        let client = world
            .event_loop
            .start_tls(&plain, Recorder::new(&at_client), client_tls.clone())
            .await
            .unwrap();
        client.write(b"abc");
        at_client.received(3).await;
        assert!(accepted.await.unwrap().unwrap().tls().is_some());
        client.close();
        at_server.until("lost").await;

        let path = format!("\0aioxide-tls-{}", std::process::id());
        let options = aioxide::UnixServerOptions {
            tls: Some(tls),
            cleanup_socket: false,
            ..aioxide::UnixServerOptions::default()
        };
        let at_server = Log::default();
        let recorder = Recorder::echo(&at_server);
        let factory = move || recorder.clone();
        let server = world
            .event_loop
            .create_unix_server(factory, &path, &options)
            .await
            .unwrap();
        let log = Log::default();
        let nameless = aioxide::UnixConnectOptions {
            tls: Some(authority.client()),
        };
        let error = world
            .event_loop
            .create_unix_connection_with(Recorder::default, &path, &nameless)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let options = aioxide::UnixConnectOptions {
            tls: Some(client_tls),
        };
        let client = world
            .event_loop
            .create_unix_connection_with(|| Recorder::new(&log), &path, &options)
            .await
            .unwrap();
        client.write(b"abc");
        log.received(3).await;
        client.close();
        log.until("lost").await;
        end(server).await;
    });
}

/// Where the machine has any: what is looked at is that the files are read, and how it is told.
#[test]
fn the_platforms_roots_are_found_or_it_is_told() {
    match ClientTls::with_platform_roots() {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(
                error.to_string().contains("no root certificates"),
                "{error}"
            );
        }
    }
}
