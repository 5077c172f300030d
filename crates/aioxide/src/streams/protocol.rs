//! Between a transport and the two halves of a stream.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::flow::WriterFlow;
use super::inlet::Inlet;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use crate::event_loop::native::same_error;
use crate::protocols::Protocol;
use crate::transports::Transport;

/// The protocol of a stream: what is received goes to a [`StreamReader`], and whether there is room
/// to send to a [`StreamWriter`]. Clones are handles to the same one: give one to the
/// transport, and keep one for [`StreamWriter::new`].
#[derive(Clone)]
pub struct StreamReaderProtocol(Rc<Inner>);

struct Inner {
    inlet: Rc<Inlet>,
    flow: Rc<WriterFlow>,
    /// What happens when the connection is made: a server's.
    on_connection: Cell<Option<OnConnection>>,
}

type OnConnection = Box<dyn FnOnce(StreamWriter)>;

impl StreamReaderProtocol {
    /// A protocol that feeds `reader`.
    #[must_use]
    pub fn new(reader: &StreamReader) -> StreamReaderProtocol {
        StreamReaderProtocol::with(Rc::clone(reader.inlet()), None)
    }

    /// A protocol with a reader of its own. When the connection is made, `on_connection` gets
    /// both halves.
    #[must_use]
    pub fn with_callback(
        limit: usize,
        on_connection: impl FnOnce(StreamReader, StreamWriter) + 'static,
    ) -> StreamReaderProtocol {
        let reader = StreamReader::new(limit);
        let inlet = Rc::clone(reader.inlet());
        let give = move |writer| on_connection(reader, writer);
        StreamReaderProtocol::with(inlet, Some(Box::new(give)))
    }

    fn with(inlet: Rc<Inlet>, on_connection: Option<OnConnection>) -> StreamReaderProtocol {
        StreamReaderProtocol(Rc::new(Inner {
            inlet,
            flow: Rc::default(),
            on_connection: Cell::new(on_connection),
        }))
    }

    pub(super) fn inlet(&self) -> &Rc<Inlet> {
        &self.0.inlet
    }

    pub(super) fn flow(&self) -> &Rc<WriterFlow> {
        &self.0.flow
    }
}

impl Protocol for StreamReaderProtocol {
    fn connection_made(&mut self, transport: Transport) {
        self.0.inlet.set_transport(Some(transport.clone()));
        if let Some(on_connection) = self.0.on_connection.take() {
            on_connection(StreamWriter::new(transport, self));
        }
    }

    fn data_received(&mut self, data: &[u8]) {
        self.0.inlet.feed_data(data);
    }

    /// The writer may go on.
    fn eof_received(&mut self) -> bool {
        self.0.inlet.feed_eof();
        true
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        match &error {
            Some(error) => self.0.inlet.set_exception(same_error(error)),
            None => self.0.inlet.feed_eof(),
        }
        self.0.inlet.set_transport(None);
        self.0.flow.set_lost(error);
    }

    fn pause_writing(&mut self) {
        self.0.flow.set_paused(true);
    }

    fn resume_writing(&mut self) {
        self.0.flow.set_paused(false);
    }
}

impl fmt::Debug for StreamReaderProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.inlet.transport() {
            Some(transport) => write!(f, "<StreamReaderProtocol transport={transport:?}>"),
            None => f.write_str("<StreamReaderProtocol>"),
        }
    }
}
