//! TLS on a stream that stands: asyncio's `StreamWriter.start_tls`.

use std::io;
use std::rc::Rc;

use super::reader::StreamReader;
use super::stream::Stream;
use super::writer::StreamWriter;
use crate::tls::{TlsInfo, TlsSide};

impl StreamWriter {
    /// Begins TLS on the connection, of which `reader` is the other half; completes when the handshake is over.
    /// A server calls it when it has told its client to begin, a client when it was told.
    ///
    /// What has come and was not read is the beginning of the peer's handshake, and nothing else: a line that
    /// somebody has slipped in before TLS began is not read after it.
    ///
    /// # Errors
    /// `NotConnected` when the connection is closing, `UnexpectedEof` when the peer has ended it. `InvalidInput`
    /// when a client's TLS has no server name
    /// ([`ClientTls::with_server_name`](crate::ClientTls::with_server_name)): nothing has been sent, the
    /// connection stands as it was. Why the handshake has failed: the connection is closed then.
    pub async fn start_tls(
        &mut self,
        reader: &mut StreamReader,
        tls: impl Into<TlsSide>,
    ) -> io::Result<()> {
        let inlet = Rc::clone(reader.inlet());
        let (Some(transport), Some(protocol)) =
            (inlet.transport(), self.transport.stream_protocol())
        else {
            let message = "TLS cannot begin: the connection is over";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        };
        if inlet.has_ended() {
            let message = "TLS cannot begin: the peer has ended the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        let event_loop = transport.event_loop().clone();
        let establishing = event_loop.begin_tls(&transport, protocol, &tls.into(), |tls| {
            tls.upgrade(&transport, &reader.take_unread());
        })?;
        let upper = establishing.layer().transport();
        inlet.set_transport(Some(upper.clone()));
        self.transport = upper;
        establishing.transport().await?;
        Ok(())
    }

    /// What the ends of the connection have agreed upon; `None` when it has no TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.transport.tls()
    }
}

impl Stream {
    /// As [`StreamWriter::start_tls`].
    ///
    /// # Errors
    /// As that.
    pub async fn start_tls(&mut self, tls: impl Into<TlsSide>) -> io::Result<()> {
        self.writer.start_tls(&mut self.reader, tls).await
    }
}
