//! TLS: the layer with a session that is a toy, and rustls's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod closing;
#[cfg(feature = "rustls")]
mod echo;
mod failing;
mod flow;
mod life;
#[cfg(feature = "rustls")]
mod making;
#[cfg(feature = "rustls")]
mod members;
#[cfg(feature = "rustls")]
mod native;
#[cfg(feature = "rustls")]
mod openssl;
#[cfg(feature = "rustls")]
mod paper;
#[cfg(feature = "rustls")]
mod streams;
mod toy;
mod upgrading;

use std::rc::Rc;

use aioxide::{Server, Socket, Transport};
use common::{Log, Recorder, World};
use toy::{Mood, Outcome, Secured, Toy};

/// How many flights a handshake has here, if that is not what the test is about.
const FLIGHTS: usize = 2;

/// A server with a toy's TLS, and what has happened to its (only) client's connection.
struct ToyServer {
    server: Server,
    port: u16,
    log: Log,
    outcome: Outcome,
}

impl ToyServer {
    async fn new(world: &World, mood: Mood, recorder: impl Fn(&Log) -> Recorder) -> ToyServer {
        let (log, outcome) = (Log::default(), Outcome::default());
        let (event_loop, recorder) = (world.event_loop.clone(), recorder(&log));
        let settled = outcome.clone();
        let factory = move || Secured {
            outcome: settled.clone(),
            ..Secured::new(
                &event_loop,
                Toy::server(FLIGHTS).with(&mood),
                recorder.clone(),
            )
        };
        let (server, port) = world.serve(factory).await;
        ToyServer {
            server,
            port,
            log,
            outcome,
        }
    }

    async fn end(self) {
        self.server.close();
        self.server.wait_closed().await;
    }
}

/// A client with a toy's TLS.
fn toy_client(world: &World, mood: &Mood, recorder: Recorder) -> Secured<Recorder> {
    Secured::new(&world.event_loop, Toy::client(FLIGHTS).with(mood), recorder)
}

/// A client whose connection stands.
async fn connected(world: &World, port: u16, mood: &Mood, log: &Log) -> Transport {
    let client = toy_client(world, mood, Recorder::new(log));
    world.connect(port, client).await;
    log.until("made").await;
    log.transport()
}

/// A peer that is played by hand, its handshake over.
async fn greeted(world: &World, port: u16) -> Socket {
    let peer = world.peer(port).await;
    let hello = toy::frame(toy::HELLO, &[0; 300]);
    for _ in 0..FLIGHTS {
        world.event_loop.sock_sendall(&peer, &hello).await.unwrap();
        world.read_exactly(&peer, hello.len()).await;
    }
    peer
}

/// Sends one frame by hand.
async fn say(world: &World, peer: &Socket, kind: u8, bytes: &[u8]) {
    let frame = toy::frame(kind, bytes);
    world.event_loop.sock_sendall(peer, &frame).await.unwrap();
}

fn calling_back(call: impl Fn() + 'static) -> Mood {
    Mood {
        calls_back: Some(Rc::new(call)),
        ..Mood::default()
    }
}
