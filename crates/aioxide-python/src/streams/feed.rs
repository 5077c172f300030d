//! What is received goes into its reader: `StreamReaderProtocol.data_received` and
//! `StreamReader.feed_data`.

use std::cell::Cell;
use std::io;

use aioxide::sys::buffer::Buffer;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyWeakrefReference};

use super::objects::{
    Held, append, append_received, attributes, field, hold, is_false, protocol, reader, set_field,
};
use super::{Streams, awaited};
use crate::imports;
use crate::operation::Operation;

/// The attributes that asyncio gives to a reader. One that has no more has no function of its own.
pub const READER_FIELDS: usize = 8;

/// A reader that takes bytes as asyncio's does in the usual case.
pub struct Feed<'py> {
    /// The reader's attributes.
    fields: Bound<'py, PyDict>,
    /// Its `_buffer`, as it was found.
    buffer: Held<'py>,
    /// How many bytes it has by now.
    length: Cell<usize>,
    /// Its `_waiter`, or None.
    waiter: Bound<'py, PyAny>,
    /// Bytes in the buffer above which reading is paused.
    high: i64,
}

/// The buffer could not grow: somebody has a view of it. asyncio's function raises what is to be said.
#[derive(Debug)]
pub struct Refused;

impl<'py> Feed<'py> {
    /// The reader of a protocol, unless something about either is unusual.
    #[inline]
    pub fn of(protocol: &Bound<'py, PyAny>) -> Option<Feed<'py>> {
        let py = protocol.py();
        let streams = Streams::get(py)?;
        if !streams.protocol.knows(protocol) {
            return None;
        }
        let fields = attributes(protocol)?;
        if fields.contains(intern!(py, "data_received")).ok()? {
            return None;
        }
        let reader = reader_of(&fields)?;
        if !streams.reader.knows(&reader) {
            return None;
        }
        let fields = attributes(&reader)?;
        if fields.len() != READER_FIELDS {
            for name in [intern!(py, "feed_data"), intern!(py, "_wakeup_waiter")] {
                if fields.contains(name).ok()? {
                    return None;
                }
            }
        }
        if !is_false(&fields, &reader::EOF) {
            return None;
        }
        let buffer = Held::of(&fields)?;
        let waiter = field(&fields, &reader::WAITER)?;
        let limit = field(&fields, &reader::LIMIT)?;
        let limit: i64 = limit.cast_exact::<PyInt>().ok()?.extract().ok()?;
        Some(Feed {
            fields,
            length: Cell::new(buffer.len()),
            buffer,
            waiter,
            high: limit.saturating_mul(2),
        })
    }

    /// Keeps these bytes.
    ///
    /// # Errors
    /// When the buffer cannot grow now.
    #[inline]
    pub fn append(&self, bytes: &[u8]) -> Result<(), Refused> {
        if self.buffer.is_empty_bytes() {
            return self.hold(&PyBytes::new(self.fields.py(), bytes));
        }
        append(&self.array()?, bytes).map_err(|_| Refused)?;
        self.length.set(self.length.get() + bytes.len());
        Ok(())
    }

    /// Keeps the bytes of this object, or the object.
    ///
    /// # Errors
    /// As [`append`](Feed::append).
    pub fn give(&self, bytes: &Bound<'py, PyBytes>) -> Result<(), Refused> {
        if self.buffer.is_empty_bytes() {
            return self.hold(bytes);
        }
        self.append(bytes.as_bytes())
    }

    fn hold(&self, bytes: &Bound<'py, PyBytes>) -> Result<(), Refused> {
        hold(&self.fields, bytes).map_err(|_| Refused)?;
        self.length.set(bytes.as_bytes().len());
        Ok(())
    }

    /// Whether the next bytes are kept as the object that they are received into: see
    /// [`give`](Feed::give).
    pub fn holds(&self) -> bool {
        self.buffer.is_empty_bytes()
    }

    fn array(&self) -> Result<Bound<'py, PyByteArray>, Refused> {
        let array = self.buffer.clone().into_array(&self.fields);
        array.map_err(|_| Refused)
    }

    /// Keeps what `receive` gives, at most `room` bytes; how many that were. `receive` must not run Python
    /// code.
    ///
    /// # Errors
    /// As [`append`](Feed::append).
    pub fn receive(
        &self,
        room: usize,
        receive: impl FnOnce(&mut Buffer<'_>) -> io::Result<usize>,
    ) -> Result<io::Result<usize>, Refused> {
        let received = append_received(&self.array()?, room, receive).map_err(|_| Refused)?;
        let (result, count) = received;
        self.length.set(self.length.get() + count);
        Ok(result.map(|_| count))
    }

    /// Whether there is more to do than to keep the bytes.
    #[inline]
    pub fn must_tell(&self) -> bool {
        !self.waiter.is_none() || self.is_much()
    }

    #[inline]
    fn is_much(&self) -> bool {
        i64::try_from(self.length.get()).is_ok_and(|length| length > self.high)
    }

    /// Wakes whoever waits, and pauses the transport if there is much.
    ///
    /// # Errors
    /// What the program's or asyncio's functions raise.
    pub fn tell(&self) -> PyResult<()> {
        let (py, fields) = (self.fields.py(), &self.fields);
        if !self.waiter.is_none() {
            set_field(fields, &reader::WAITER, py.None().bind(py))?;
            self.wake()?;
        }
        if !self.is_much() {
            return Ok(());
        }
        let Some(transport) =
            field(fields, &reader::TRANSPORT).filter(|transport| !transport.is_none())
        else {
            return Ok(());
        };
        if !is_false(fields, &reader::PAUSED) {
            return Ok(());
        }
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => set_field(fields, &reader::PAUSED, &PyBool::new(fields.py(), true)),
            // It is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                set_field(fields, &reader::TRANSPORT, py.None().bind(py))
            }
            Err(error) => Err(error),
        }
    }
}

impl Feed<'_> {
    /// Makes the future done, unless it was cancelled.
    fn wake(&self) -> PyResult<()> {
        let (py, waiter) = (self.fields.py(), &self.waiter);
        if let Some(operation) = awaited::ours(waiter) {
            return Operation::complete(operation);
        }
        let cancelled = || waiter.call_method0(intern!(py, "cancelled"))?.is_truthy();
        let known = waiter.get_type().is(imports::asyncio_future(py)?);
        // asyncio's own future says by an exception, too, that it was cancelled.
        if !known && cancelled()? {
            return Ok(());
        }
        match waiter.call_method1(intern!(py, "set_result"), (py.None(),)) {
            Err(_) if known && cancelled()? => Ok(()),
            result => result.map(drop),
        }
    }
}

/// The reader of the protocol with these attributes, if it still lives.
#[inline]
pub fn reader_of<'py>(fields: &Bound<'py, PyDict>) -> Option<Bound<'py, PyAny>> {
    let reader = field(fields, &protocol::READER)?;
    reader.cast_exact::<PyWeakrefReference>().ok()?.upgrade()
}
