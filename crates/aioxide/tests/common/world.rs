//! A loop with its network, and the eyes of a test on both.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::Future;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aioxide::reactor::epoll::EpollReactor;
use aioxide::reactor::simulated::{Config, SimulatedNetwork, SimulatedReactor};
use aioxide::reactor::{Op, Reactor};
use aioxide::sys::buffer::Buffer;
use aioxide::sys::socket::set_nonblocking;
use aioxide::{
    AnyProtocol, ConnectOptions, DatagramOptions, DatagramProtocol, DatagramTransport, EventLoop,
    Family, Server, ServerOptions, Socket, SocketAddress, Transport,
};

use super::observed::{Counts, Observed};

/// A test that takes longer hangs. Real seconds on the kernel's network; virtual ones, which cost
/// nothing, on the simulated one, where tests sleep for hours.
const PATIENCE_REAL: Duration = Duration::from_secs(20);
const PATIENCE_VIRTUAL: Duration = Duration::from_secs(1_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Epoll,
    Simulated,
}

/// A loop, its network, and what was reported to its exception handler.
#[derive(Clone)]
pub struct World {
    pub event_loop: EventLoop,
    pub kind: Kind,
    simulated: Option<SimulatedReactor>,
    moody: bool,
    counts: Rc<Counts>,
    reports: Rc<RefCell<Vec<String>>>,
}

impl World {
    pub fn epoll() -> World {
        World::over(Rc::new(EpollReactor::new().unwrap()), None)
    }

    pub fn simulated(seed: u64) -> World {
        World::with(Config::new(seed))
    }

    pub fn with(config: Config) -> World {
        let reactor = SimulatedReactor::with(config);
        World::over(Rc::new(reactor.clone()), Some(reactor))
    }

    /// A simulated network in a bad mood: no call moves more than `transfer` bytes, events come late
    /// and some for nothing, segments take their time.
    pub fn dribbling(seed: u64, transfer: usize) -> World {
        let config = Config::new(seed)
            .partial_waits(true)
            .latency(Duration::from_millis(5))
            .jitter(Duration::from_millis(20));
        let world = World {
            moody: true,
            ..World::with(config)
        };
        let network = world.network().unwrap();
        network.limit_transfers(transfer);
        network.spurious_events(5);
        world
    }

    fn over(reactor: Rc<dyn Reactor>, simulated: Option<SimulatedReactor>) -> World {
        let counts = Rc::<Counts>::default();
        let observed = Observed::new(reactor, Rc::clone(&counts));
        let event_loop = EventLoop::with_reactor(Rc::new(observed));
        let reports = Rc::<RefCell<Vec<String>>>::default();
        let handler = {
            let reports = Rc::clone(&reports);
            move |_: &EventLoop, report: &aioxide::Report<std::io::Error>| {
                let error = report.error.as_ref().map(ToString::to_string);
                reports.borrow_mut().push(format!(
                    "{}: {}",
                    report.message,
                    error.unwrap_or_default()
                ));
            }
        };
        event_loop.set_exception_handler(Some(handler));
        World {
            event_loop,
            kind: if simulated.is_some() {
                Kind::Simulated
            } else {
                Kind::Epoll
            },
            simulated,
            moody: false,
            counts,
            reports,
        }
    }

    /// Runs a test to its end, and looks whether it has left anything behind.
    pub fn run<F: Future + 'static>(&self, test: impl FnOnce(World) -> F) -> F::Output {
        let patience = match self.kind {
            Kind::Epoll => PATIENCE_REAL,
            Kind::Simulated => PATIENCE_VIRTUAL,
        };
        let test = test(self.clone());
        let event_loop = self.event_loop.clone();
        let begun = event_loop.time();
        let result = self
            .event_loop
            .run(async move { event_loop.timeout(patience, test).await })
            .unwrap()
            .expect("the test hangs");
        // The limit's timer polls the test a last time: it must not be what wakes it.
        let took = self.event_loop.time() - begun;
        assert!(took < patience, "a task was not woken");
        self.assert_clean();
        result
    }

    /// Nothing is open, nothing waits, nothing was reported that the test has not looked at.
    pub fn assert_clean(&self) {
        assert_eq!(self.reports(), Vec::<String>::new(), "reports");
        assert_eq!(self.waiting(), 0, "operations that wait");
        assert_eq!(self.open_sockets(), 0, "sockets that are open");
        if let Some(network) = self.network() {
            assert_eq!(network.violations(), Vec::<String>::new());
            assert_eq!(network.open_descriptors(), 0);
        }
    }

    /// Takes what was reported to the exception handler.
    pub fn reports(&self) -> Vec<String> {
        self.reports.take()
    }

    pub fn network(&self) -> Option<SimulatedNetwork> {
        self.simulated.as_ref().map(SimulatedReactor::network)
    }

    /// Whether calls are cut short and events come late.
    pub fn has_moods(&self) -> bool {
        self.moody
    }

    pub fn open_sockets(&self) -> usize {
        self.counts.open.get()
    }

    pub fn waiting(&self) -> usize {
        self.counts.waiting.borrow().len()
    }

    /// Until when the loop would have slept, when it last had nothing to do.
    pub fn deadline(&self) -> Option<aioxide::Time> {
        self.counts.deadline.get()
    }

    pub fn sends(&self) -> usize {
        self.counts.sends.get()
    }

    pub fn datagram_sends(&self) -> usize {
        self.counts.datagram_sends.get()
    }

    pub fn receives(&self) -> usize {
        self.counts.receives.get()
    }

    /// Lets everything run that is ready, `count` iterations long.
    pub async fn turns(&self, count: usize) {
        for _ in 0..count {
            self.event_loop.sleep(Duration::ZERO).await;
            yield_now().await;
        }
    }

    /// A server on loopback, and its port.
    pub async fn serve<P: AnyProtocol>(&self, factory: impl Fn() -> P + 'static) -> (Server, u16) {
        let server = self
            .event_loop
            .create_server(factory, Some("127.0.0.1"), 0, &ServerOptions::default())
            .await
            .unwrap();
        let port = port_of(&server);
        (server, port)
    }

    /// A connection to a server on loopback.
    pub async fn connect<P: AnyProtocol>(&self, port: u16, protocol: P) -> Transport {
        self.event_loop
            .create_connection(|| protocol, "127.0.0.1", port, &ConnectOptions::default())
            .await
            .unwrap()
    }

    /// A socket that connects to nothing yet.
    pub fn socket(&self) -> Socket {
        self.event_loop
            .reactor()
            .open(Family::INET, libc::SOCK_STREAM, 0)
            .unwrap()
    }

    /// A socket that listens on loopback, and its address.
    pub fn listener(&self) -> (Socket, SocketAddress) {
        let reactor = self.event_loop.reactor();
        let socket = self.socket();
        reactor.bind(socket.fd(), &loopback(0)).unwrap();
        reactor.listen(socket.fd(), 16).unwrap();
        let address = reactor.local_address(socket.fd()).unwrap();
        (socket, address)
    }

    /// Two sockets that are connected to each other.
    pub async fn socket_pair(&self) -> (Socket, Socket) {
        let (listener, address) = self.listener();
        let client = self.socket();
        self.event_loop
            .sock_connect(&client, address)
            .await
            .unwrap();
        let (server, _) = self.event_loop.sock_accept(&listener).await.unwrap();
        (client, server)
    }

    /// A plain socket that is connected to a server: a peer that a test plays by hand.
    pub async fn peer(&self, port: u16) -> Socket {
        let socket = self.socket();
        self.event_loop
            .sock_connect(&socket, loopback(port))
            .await
            .unwrap();
        socket
    }

    /// A pipe: its reading end, its writing end.
    pub fn pipe(&self) -> (Socket, Socket) {
        let (reader, writer) = match self.network() {
            Some(network) => network.pipe().unwrap(),
            None => {
                let (reader, writer) = std::io::pipe().unwrap();
                let socket = |fd: OwnedFd| {
                    set_nonblocking(fd.as_raw_fd()).unwrap();
                    Socket::from(fd)
                };
                (socket(reader.into()), socket(writer.into()))
            }
        };
        (self.counts.count(reader), self.counts.count(writer))
    }

    /// A transport that reads from the end of a pipe.
    pub async fn read_pipe<P: AnyProtocol>(&self, end: Socket, protocol: P) -> Transport {
        let protocol = protocol.into_stream_protocol();
        let (transport, made) = self.event_loop.start_read_pipe(end, protocol).unwrap();
        made.await;
        transport
    }

    /// A transport that writes to the end of a pipe.
    pub async fn write_pipe<P: AnyProtocol>(&self, end: Socket, protocol: P) -> Transport {
        let protocol = protocol.into_stream_protocol();
        let (transport, made) = self.event_loop.start_write_pipe(end, protocol).unwrap();
        made.await;
        transport
    }

    /// Reads once, at least a byte unless it is the end.
    pub async fn read_some(&self, end: &Socket, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let reactor = self.event_loop.reactor();
        let read = || reactor.read(end.fd(), &mut Buffer::from(&mut bytes[..]));
        let attempt = self.event_loop.attempt(end.fd(), Op::Receive, read);
        let count = attempt.await.unwrap();
        bytes.truncate(count);
        bytes
    }

    /// Everything that comes out of a pipe until the end.
    pub async fn drain_pipe(&self, end: &Socket) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.read_some(end, 65536).await;
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
        }
    }

    /// Writes all of `bytes` to the end of a pipe.
    pub async fn fill_pipe(&self, end: &Socket, bytes: &[u8]) {
        let reactor = self.event_loop.reactor();
        let mut left = bytes;
        while !left.is_empty() {
            let write = || reactor.write(end.fd(), &[IoSlice::new(left)]);
            let attempt = self.event_loop.attempt(end.fd(), Op::Send, write);
            left = &left[attempt.await.unwrap()..];
        }
    }

    /// An endpoint for UDP on loopback, and its address.
    pub async fn endpoint<P: DatagramProtocol>(
        &self,
        protocol: P,
    ) -> (DatagramTransport, SocketAddress) {
        let options = DatagramOptions::default();
        let made = self.event_loop.create_datagram_endpoint(
            || protocol,
            Some(("127.0.0.1", 0)),
            None,
            &options,
        );
        let transport = made.await.unwrap();
        let address = transport.local_address().unwrap();
        (transport, address)
    }

    /// An endpoint for UDP that sends to a port of loopback.
    pub async fn endpoint_to<P: DatagramProtocol>(
        &self,
        port: u16,
        protocol: P,
    ) -> DatagramTransport {
        let options = DatagramOptions::default();
        let made = self.event_loop.create_datagram_endpoint(
            || protocol,
            None,
            Some(("127.0.0.1", port)),
            &options,
        );
        made.await.unwrap()
    }

    /// An endpoint over a Unix socket with a name of its own, and that.
    pub async fn unix_endpoint<P: DatagramProtocol>(
        &self,
        protocol: P,
    ) -> (DatagramTransport, SocketAddress) {
        static ENDPOINTS: AtomicUsize = AtomicUsize::new(0);
        let number = ENDPOINTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("\0aioxide-{}-{number}", std::process::id());
        let made = self.event_loop.create_unix_datagram_endpoint(
            || protocol,
            Some(Path::new(&name)),
            None,
        );
        let transport = made.await.unwrap();
        let address = transport.local_address().unwrap();
        (transport, address)
    }

    /// An endpoint over a Unix socket that sends to `peer`: what a peer does not take waits.
    pub async fn unix_endpoint_to<P: DatagramProtocol>(
        &self,
        peer: &SocketAddress,
        protocol: P,
    ) -> DatagramTransport {
        let SocketAddress::Unix(name) = peer else {
            panic!("{peer} is no name of a Unix socket");
        };
        let mut path = vec![0];
        path.extend(name.abstract_name().unwrap());
        let path = Path::new(OsStr::from_bytes(&path));
        let made = self
            .event_loop
            .create_unix_datagram_endpoint(|| protocol, None, Some(path));
        made.await.unwrap()
    }

    /// A socket of datagrams that a test plays by hand, and its address.
    pub fn datagram_socket(&self, family: Family) -> (Socket, SocketAddress) {
        let reactor = self.event_loop.reactor();
        let socket = reactor.open(family, libc::SOCK_DGRAM, 0).unwrap();
        let any = match family {
            Family::UNIX => SocketAddress::unnamed(),
            _ => loopback(0),
        };
        reactor.bind(socket.fd(), &any).unwrap();
        let address = reactor.local_address(socket.fd()).unwrap();
        (socket, address)
    }

    /// Sends a datagram by hand.
    pub async fn send_to(&self, socket: &Socket, bytes: &[u8], to: &SocketAddress) {
        let fd = socket.fd();
        let send = || self.event_loop.reactor().send_to(fd, bytes, Some(to));
        let sent = self.event_loop.attempt(fd, Op::Send, send).await;
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// The next datagram that comes to a socket by hand.
    pub async fn receive_datagram(&self, socket: &Socket) -> Vec<u8> {
        self.event_loop.sock_recv(socket, 1 << 20).await.unwrap()
    }

    /// Everything that `socket` receives until the end.
    pub async fn read_all(&self, socket: &Socket) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.event_loop.sock_recv(socket, 65536).await.unwrap();
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
        }
    }

    /// Everything up to `end`, which no former bytes may look like.
    pub async fn read_until(&self, socket: &Socket, end: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        while !all.ends_with(end) {
            let bytes = self.event_loop.sock_recv(socket, 65536).await.unwrap();
            assert!(!bytes.is_empty(), "the end came after {} bytes", all.len());
            all.extend(bytes);
        }
        all
    }

    /// Exactly `count` bytes.
    pub async fn read_exactly(&self, socket: &Socket, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let bytes = self.event_loop.sock_recv(socket, count - all.len()).await;
            let bytes = bytes.unwrap();
            assert!(!bytes.is_empty(), "the end came after {} bytes", all.len());
            all.extend(bytes);
        }
        all
    }
}

pub fn loopback(port: u16) -> SocketAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

pub fn port_of(server: &Server) -> u16 {
    server.local_addresses()[0].port().unwrap()
}

/// Bytes that tell where they belong.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

/// Lets everything else run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
