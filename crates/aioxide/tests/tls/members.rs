//! Clients that have to show a certificate.

use std::io;

use aioxide::{ClientTls, ServerTls};

use crate::common::{Log, Recorder, World};
use crate::echo::{connect, end, serve};
use crate::paper::{Authority, VERSIONS};

crate::on_every_network!(
    a_client_may_have_to_show_a_certificate,
    a_server_says_why_it_lets_a_client_not_in,
    a_client_is_told_why_it_is_not_let_in,
    a_session_of_before_is_no_way_in,
    an_authority_is_no_member,
);

/// How a client hears that it is not let in: at once, or, in TLS 1.3, after its own handshake.
async fn refusal(world: &World, port: u16, tls: &ClientTls) -> String {
    let log = Log::default();
    match connect(world, port, tls, &log).await {
        Err(error) => error.to_string(),
        Ok(_) => {
            log.until("lost").await;
            log.error().unwrap()
        }
    }
}

/// Whether there was no room for the whole alert.
fn is_unheard(world: &World, error: &str) -> bool {
    world.has_moods() && (error.contains("reset") || error.contains("cut off"))
}

fn a_client_may_have_to_show_a_certificate(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let member = authority.issue(&["member"]);
        let at_server = Log::default();
        let tls = authority.server_for_members(&authority.issue(&["127.0.0.1"]));
        let (server, port) = serve(&world, &tls, &at_server).await;
        for version in VERSIONS {
            let tls = authority.client_of(version, Some(&member));
            for resumed in [false, true] {
                let log = Log::default();
                let client = connect(&world, port, &tls, &log).await.unwrap();
                client.write(b"it is me");
                log.received(8).await;
                let info = at_server.transport().tls().unwrap();
                assert_eq!(info.peer_certificates, member.chain);
                assert_eq!(info.resumed, resumed);
                client.close();
                log.until("lost").await;
            }
        }
        end(server).await;
    });
}

fn a_client_is_told_why_it_is_not_let_in(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let stranger = Authority::new().issue(&["stranger"]);
        let at_server = Log::default();
        let tls = authority.server_for_members(&authority.issue(&["127.0.0.1"]));
        let (server, port) = serve(&world, &tls, &at_server).await;
        for version in VERSIONS {
            for (paper, expected) in [
                (None, "it wants a certificate (CertificateRequired)"),
                (Some(&stranger), "it does not trust the issuer"),
            ] {
                let tls = authority.client_of(version, paper);
                let error = refusal(&world, port, &tls).await;
                if is_unheard(&world, &error) {
                    continue;
                }
                let told = error.contains("the peer has given up the TLS connection: ");
                assert!(told && error.contains(expected), "{error}");
            }
        }
        assert!(at_server.events().is_empty());
        end(server).await;
    });
}

fn a_server_says_why_it_lets_a_client_not_in(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let stranger = Authority::new().issue(&["stranger"]);
        let tls = authority.server_for_members(&authority.issue(&["localhost"]));
        for version in VERSIONS {
            for (paper, expected) in [
                (
                    None,
                    "the peer was asked for a certificate, and has shown none",
                ),
                (
                    Some(&stranger),
                    "the peer's certificate was refused: nobody who is trusted has issued it",
                ),
            ] {
                let (at_server, at_client) = (Log::default(), Log::default());
                let recorder = Recorder::new(&at_server);
                let (server, port) = world.serve(move || recorder.clone()).await;
                let plain = world.connect(port, Recorder::default()).await;
                at_server.until("made").await;
                let (event_loop, transport) = (world.event_loop.clone(), at_server.transport());
                let server_tls = tls.clone();
                let accepting = world.event_loop.spawn(async move {
                    let protocol = Recorder::default();
                    event_loop.start_tls(&transport, protocol, server_tls).await
                });
                let client_tls = authority.client_of(version, paper);
                let client_tls = client_tls.with_server_name("localhost").unwrap();
                let client = Recorder::new(&at_client);
                let begun = world.event_loop.start_tls(&plain, client, client_tls).await;
                let error = accepting.await.unwrap().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert_eq!(error.to_string(), expected);
                if begun.is_ok() {
                    at_client.until("lost").await;
                }
                end(server).await;
            }
        }
    });
}

/// Who was let in without a certificate, when none was asked for, does not come in by resuming that.
fn a_session_of_before_is_no_way_in(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let open = authority.issue(&["127.0.0.1"]).server();
        let roots = [authority.certificate.clone()];
        let closed = open.clone().with_client_roots(roots).unwrap();
        let at_server = Log::default();
        let (anybody, open_port) = serve(&world, &open, &Log::default()).await;
        let (members, closed_port) = serve(&world, &closed, &at_server).await;
        for version in VERSIONS {
            let tls = authority.client_of(version, None);
            for resumed in [false, true] {
                let log = Log::default();
                let client = connect(&world, open_port, &tls, &log).await.unwrap();
                client.write(b"abc");
                log.received(3).await;
                assert_eq!(client.tls().unwrap().resumed, resumed);
                client.close();
                log.until("lost").await;
            }
            let error = refusal(&world, closed_port, &tls).await;
            let told = error.contains("it wants a certificate");
            assert!(told || is_unheard(&world, &error), "{error}");
        }
        assert!(at_server.events().is_empty());
        end(anybody).await;
        end(members).await;
    });
}

fn an_authority_is_no_member(world: World) {
    world.run(async |world| {
        let authority = Authority::new();
        let tls = authority.server_for_members(&authority.issue(&["127.0.0.1"]));
        let at_server = Log::default();
        let (server, port) = serve(&world, &tls, &at_server).await;
        let tls = authority.paper().shown_by(authority.client());
        let error = refusal(&world, port, &tls).await;
        let told = error.contains("it does not accept the certificate");
        assert!(told || is_unheard(&world, &error), "{error}");
        assert!(at_server.events().is_empty());
        end(server).await;
    });
}

#[test]
fn a_configuration_of_ones_own_says_by_itself_whom_it_lets_in() {
    let authority = Authority::new();
    let config = authority.issue(&["localhost"]).server().config().clone();
    let own = ServerTls::new(config);
    let error = own
        .with_client_roots([authority.certificate.clone()])
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("with_client_cert_verifier"),
        "{error}"
    );
}

#[test]
fn what_was_set_before_the_roots_of_clients_stays() {
    let authority = Authority::new();
    let timeouts = aioxide::TlsTimeouts {
        handshake: std::time::Duration::from_secs(7),
        ..aioxide::TlsTimeouts::default()
    };
    let server = authority.issue(&["localhost"]).server();
    let tls = server
        .with_alpn_protocols(&["h2"])
        .with_timeouts(timeouts)
        .with_client_roots_pem(authority.pem.as_bytes())
        .unwrap();
    assert_eq!(tls.config().alpn_protocols, [b"h2"]);
    assert_eq!(tls.config().max_early_data_size, 0);
    assert!(format!("{tls:?}").contains("handshake: 7s"));
    // Twice is as good as once.
    let twice = tls.with_client_roots([authority.certificate.clone()]);
    assert_eq!(twice.unwrap().config().alpn_protocols, [b"h2"]);
}
