//! What objects written in Python are made of: their attributes, their buffers, and the numbers of their
//! classes.

use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::sync::OnceLock;
use std::{ptr, slice};

use aioxide::sys::buffer::Buffer;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::gil::OnGil;

/// The attributes of an object of one of asyncio's classes: its `__dict__`.
#[inline]
pub fn attributes<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is live. The call gives a new reference to its dictionary, which it makes if there
    // is none yet, or null with an exception.
    let found = unsafe {
        let found = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), found)
    };
    found.ok()?.cast_into().ok()
}

/// An attribute that asyncio's objects of one class have.
///
/// # Facts
///
/// The attributes of the objects of a class stand in one order: the interpreter keeps their names once, and for each
/// object an array of what it has under them, as long as the object gets no attribute of its own. To look one up is to
/// hash its name, to search it among the names and to go to the array: some 100 instructions, some 30 times for a request, a
/// quarter of what it takes above the kernel.
///
/// # The choice
///
/// Where each attribute stands in the array is looked for once, in an object that is made for it and kept
/// ([`learn`]). A dictionary that shares its names with that object has it at the same place. Every other is asked as
/// ever.
///
/// # What it costs
///
/// It rests on how the interpreter keeps such arrays. If that is not as thought, nothing is found in the object,
/// and all dictionaries are asked.
pub struct Field {
    text: &'static str,
    name: PyOnceLock<Py<PyString>>,
    /// Of objects of asyncio's class, and of ours.
    places: OnGil<Cell<[Place; 2]>>,
}

/// Where a field is.
#[derive(Clone, Copy)]
struct Place {
    /// The address of the names that a dictionary must have; they live as long as the object that was looked at. 0 is
    /// none.
    names: usize,
    /// Bytes from the beginning of the array.
    at: usize,
}

impl Field {
    pub const fn new(text: &'static str) -> Field {
        Field {
            text,
            name: PyOnceLock::new(),
            places: OnGil::new(Cell::new([Place { names: 0, at: 0 }; 2])),
        }
    }

    #[inline]
    pub fn name<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        let name = self
            .name
            .get_or_init(py, || PyString::intern(py, self.text).unbind());
        name.bind(py)
    }

    /// Where these attributes have it, if that is known and it is there.
    #[inline]
    fn slot(&self, attributes: &Bound<'_, PyDict>) -> Option<*mut *mut ffi::PyObject> {
        let [asyncios, ours] = self.places.get(attributes.py()).get();
        let dictionary = attributes.as_ptr().cast::<ffi::PyDictObject>();
        // SAFETY: the object is a dictionary, whose fields are read with the GIL held. One that has these names
        // and an array has a place for each of them in the array; it is null where there is nothing.
        unsafe {
            let (names, values) = ((*dictionary).ma_keys.addr(), (*dictionary).ma_values);
            let at = match names {
                _ if values.is_null() => return None,
                names if names == ours.names => ours.at,
                names if names == asyncios.names => asyncios.at,
                _ => return None,
            };
            let slot = values.cast::<*mut ffi::PyObject>().byte_add(at);
            (!(*slot).is_null()).then_some(slot)
        }
    }
}

/// Learns where `fields` are from an object that has them. It has to be kept for ever, and has marks in them afterwards.
pub fn learn(object: &Bound<'_, PyAny>, fields: &[&Field]) -> PyResult<()> {
    let py = object.py();
    let builtins = py.import(intern!(py, "builtins"))?;
    let mut marks = Vec::with_capacity(fields.len());
    for field in fields {
        let mark = builtins.call_method0(intern!(py, "object"))?;
        object.setattr(field.name(py), &mark)?;
        marks.push(mark);
    }
    let Some(attributes) = attributes(object) else {
        return Ok(());
    };
    let dictionary = attributes.as_ptr().cast::<ffi::PyDictObject>();
    // SAFETY: the object is a dictionary, whose fields are read with the GIL held.
    let (names, values) = unsafe { ((*dictionary).ma_keys.addr(), (*dictionary).ma_values) };
    if values.is_null() {
        return Ok(());
    }
    // Since 3.13 a word with numbers stands before the array.
    let words = attributes.len() + usize::from(cfg!(Py_3_13));
    for (field, mark) in fields.iter().zip(&marks) {
        let found = (0..words).find(|word| {
            // SAFETY: the array has a word for each attribute that is there, at least.
            let value = unsafe { values.cast::<*mut ffi::PyObject>().add(*word).read() };
            value == mark.as_ptr()
        });
        let at = found.map(|word| word * size_of::<*mut ffi::PyObject>());
        if let Some(at) = at {
            let [_, before] = field.places.get(py).get();
            field.places.get(py).set([before, Place { names, at }]);
        }
    }
    Ok(())
}

/// What an object has as a field.
#[inline]
pub fn field<'py>(attributes: &Bound<'py, PyDict>, field: &Field) -> Option<Bound<'py, PyAny>> {
    match field.slot(attributes) {
        // SAFETY: what stands there is a live object.
        Some(slot) => unsafe { Some(Bound::from_borrowed_ptr(attributes.py(), *slot)) },
        None => attributes.get_item(field.name(attributes.py())).ok()?,
    }
}

/// Whether what an object has as a field is this object.
#[inline]
fn is(attributes: &Bound<'_, PyDict>, field: &Field, object: *mut ffi::PyObject) -> bool {
    match field.slot(attributes) {
        // SAFETY: the pointer is only compared.
        Some(slot) => unsafe { *slot == object },
        None => {
            let found = attributes.get_item(field.name(attributes.py()));
            found.is_ok_and(|found| found.is_some_and(|found| found.as_ptr() == object))
        }
    }
}

/// Whether what an object has as a field is `False`.
#[inline]
pub fn is_false(attributes: &Bound<'_, PyDict>, field: &Field) -> bool {
    // SAFETY: the object is a static one of the interpreter's, and only compared.
    is(attributes, field, unsafe { ffi::Py_False() })
}

/// Whether what an object has as a field is `None`.
#[inline]
pub fn is_none(attributes: &Bound<'_, PyDict>, field: &Field) -> bool {
    // SAFETY: as above.
    is(attributes, field, unsafe { ffi::Py_None() })
}

/// Gives an object this value as a field.
///
/// # Errors
/// `MemoryError`; none if it has a value already.
#[inline]
pub fn set_field<'py>(
    attributes: &Bound<'py, PyDict>,
    field: &Field,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let Some(slot) = field.slot(attributes).filter(|_| is_plain(attributes)) else {
        return attributes.set_item(field.name(attributes.py()), value);
    };
    // SAFETY: what stands there is a reference of the dictionary's to a live object. It gets one of its own to the
    // value first; what giving up the other runs finds the dictionary whole.
    unsafe {
        let before = slot.replace(value.clone().into_ptr());
        ffi::Py_DECREF(before);
    }
    Ok(())
}

/// Whether nobody has to be told that a value of a dictionary becomes another one.
#[inline]
fn is_plain(attributes: &Bound<'_, PyDict>) -> bool {
    /// The bits of the watchers (`PyDict_Watch`) in the word before the names.
    const WATCHERS: u64 = 0xff;
    let dictionary = attributes.as_ptr().cast::<ffi::PyDictObject>();
    // SAFETY: the object is a dictionary, whose fields are read with the GIL held: this one has 64 bits of numbers
    // before the names, since 3.12 with those of its watchers.
    unsafe {
        let numbers = (&raw const (*dictionary).ma_keys)
            .cast::<u64>()
            .sub(1)
            .read();
        let watched = cfg!(Py_3_12) && numbers & WATCHERS != 0;
        // One that has had nothing but numbers and the like may not be seen by the collector yet.
        !watched && ffi::PyObject_GC_IsTracked(attributes.as_ptr()) != 0
    }
}

/// The number of what a class looks like now; 0 is none.
#[inline]
pub fn version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: the class is live, and its fields are read with the GIL held.
    unsafe {
        let class = class.as_type_ptr();
        if cfg!(not(Py_3_12)) && (*class).tp_flags & ffi::Py_TPFLAGS_VALID_VERSION_TAG == 0 {
            return 0;
        }
        (*class).tp_version_tag
    }
}

/// The fields of a reader.
pub mod reader {
    use super::Field;

    pub static LIMIT: Field = Field::new("_limit");
    pub static LOOP: Field = Field::new("_loop");
    pub static BUFFER: Field = Field::new("_buffer");
    pub static EOF: Field = Field::new("_eof");
    pub static WAITER: Field = Field::new("_waiter");
    pub static EXCEPTION: Field = Field::new("_exception");
    pub static TRANSPORT: Field = Field::new("_transport");
    pub static PAUSED: Field = Field::new("_paused");
    pub static ALL: [&Field; 8] = [
        &LIMIT, &LOOP, &BUFFER, &EOF, &WAITER, &EXCEPTION, &TRANSPORT, &PAUSED,
    ];
}

/// Those of a writer that are asked for.
pub mod writer {
    use super::Field;

    pub static TRANSPORT: Field = Field::new("_transport");
    pub static PROTOCOL: Field = Field::new("_protocol");
    pub static READER: Field = Field::new("_reader");
    pub static ALL: [&Field; 3] = [&TRANSPORT, &PROTOCOL, &READER];
}

/// Those of a protocol that are asked for.
pub mod protocol {
    use super::Field;

    pub static READER: Field = Field::new("_stream_reader_wr");
    pub static CALLBACK: Field = Field::new("_client_connected_cb");
    pub static LOST: Field = Field::new("_connection_lost");
    pub static PAUSED: Field = Field::new("_paused");
    pub static ALL: [&Field; 4] = [&READER, &CALLBACK, &LOST, &PAUSED];
}

/// The memory of buffers that are empty now, for the next that gets bytes.
///
/// # Facts
///
/// A reader's buffer is empty most of the time, and holds a message for a moment. To grow and to shrink it
/// takes some 900 instructions of the C heap each time.
///
/// # The choice
///
/// The memory of a buffer that becomes empty is put aside, and given to the next one that is empty and gets
/// bytes. It is the buffers' own memory, moved as it is: nothing is allocated or freed here.
///
/// # What it costs
///
/// At most [`SPARES`] blocks of [`SPARE_SIZE`] bytes for the whole process.
#[derive(Default)]
struct Spares(RefCell<Vec<Block>>);

/// The memory of a `bytearray` without elements.
struct Block {
    memory: *mut c_char,
    /// Bytes of it.
    size: ffi::Py_ssize_t,
}

static SPARE_MEMORY: OnceLock<OnGil<Spares>> = OnceLock::new();

/// Blocks that are kept: as many as connections are served between two looks for events, on a busy loop.
const SPARES: usize = 64;

/// The largest block that is kept, in bytes: above, a copy takes more than the heap.
const SPARE_SIZE: usize = 8 * 1024;

impl Spares {
    fn get(py: Python<'_>) -> &Spares {
        SPARE_MEMORY
            .get_or_init(|| OnGil::new(Spares::default()))
            .get(py)
    }

    /// Puts `bytes` into an empty buffer without memory; whether there was a block for them.
    fn fill(&self, buffer: &Bound<'_, PyByteArray>, bytes: &[u8]) -> bool {
        let mut blocks = self.0.borrow_mut();
        // The one that was used last is in the processor's cache.
        let Some(block) =
            blocks.pop_if(|block| usize::try_from(block.size).is_ok_and(|size| bytes.len() < size))
        else {
            return false;
        };
        let object = buffer.as_ptr().cast::<ffi::PyByteArrayObject>();
        // SAFETY: the buffer has neither memory nor views, which `append` has seen to. The block is the whole
        // memory of another `bytearray` that has it no more, and holds the bytes and a final zero.
        unsafe {
            (*object).ob_bytes = block.memory;
            (*object).ob_start = block.memory;
            (*object).ob_alloc = block.size;
            (*object).ob_base.ob_size = bytes.len() as ffi::Py_ssize_t;
            let memory = block.memory.cast::<u8>();
            ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
            memory.add(bytes.len()).write(0);
        }
        true
    }

    /// Empties a buffer and keeps its memory; false if it is not done.
    fn empty(&self, buffer: &Bound<'_, PyByteArray>) -> bool {
        let object = buffer.as_ptr().cast::<ffi::PyByteArrayObject>();
        // SAFETY: the object is a `bytearray`, whose fields are read with the GIL held.
        let (memory, size, views) =
            unsafe { ((*object).ob_bytes, (*object).ob_alloc, (*object).ob_exports) };
        let fits = usize::try_from(size).is_ok_and(|size| size <= SPARE_SIZE);
        let mut blocks = self.0.borrow_mut();
        if views != 0 || memory.is_null() || !fits || blocks.len() == SPARES {
            return false;
        }
        blocks.push(Block { memory, size });
        // SAFETY: nobody has a view of the memory, and no Python code runs meanwhile. A `bytearray` that was
        // made without elements has the same fields.
        unsafe {
            (*object).ob_bytes = ptr::null_mut();
            (*object).ob_start = ptr::null_mut();
            (*object).ob_alloc = 0;
            (*object).ob_base.ob_size = 0;
        }
        true
    }
}

/// What a reader has under `_buffer`.
///
/// # Facts
///
/// Most of the time a reader's buffer is empty; then a message is received, and somebody who waits for it takes
/// all of it. asyncio's buffer is a `bytearray`, so each message is copied into it and out of it again.
///
/// # The choice
///
/// Readers of our class keep what was received into an empty buffer as the `bytes` object that it was received
/// into, and `read()` gives that object. As soon as there is more, or only a part of it is taken, or anybody
/// looks at the attribute (a property of our class), it becomes the `bytearray` that asyncio has.
///
/// # What it costs
///
/// `vars(reader)` may show `bytes`. Who takes a part of a message pays for one more object.
#[derive(Clone)]
pub enum Held<'py> {
    Array(Bound<'py, PyByteArray>),
    Bytes(Bound<'py, PyBytes>),
}

impl<'py> Held<'py> {
    /// The buffer of the reader with these attributes.
    #[inline]
    pub fn of(fields: &Bound<'py, PyDict>) -> Option<Held<'py>> {
        let buffer = field(fields, &reader::BUFFER)?;
        match buffer.cast_into_exact::<PyBytes>() {
            Ok(bytes) => Some(Held::Bytes(bytes)),
            Err(error) => Some(Held::Array(error.into_inner().cast_into_exact().ok()?)),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Held::Array(array) => array.len(),
            Held::Bytes(bytes) => bytes.as_bytes().len(),
        }
    }

    /// Whether it is `bytes`, and none of them are there: the next ones take its place.
    #[inline]
    pub fn is_empty_bytes(&self) -> bool {
        matches!(self, Held::Bytes(bytes) if bytes.as_bytes().is_empty())
    }

    /// As asyncio has it.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn into_array(self, fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyByteArray>> {
        match self {
            Held::Array(array) => Ok(array),
            Held::Bytes(bytes) => put_array(fields, bytes.as_bytes()),
        }
    }

    /// Takes the first `count` bytes, or fewer if there are no more; how many are left. `whole` says that the
    /// messages of this reader are taken as they come.
    ///
    /// # Errors
    /// `BufferError` when somebody has a view of the buffer, `MemoryError`.
    #[inline]
    pub fn take(
        self,
        fields: &Bound<'py, PyDict>,
        count: usize,
        whole: bool,
    ) -> PyResult<(Bound<'py, PyBytes>, usize)> {
        let py = fields.py();
        match self {
            Held::Bytes(bytes) => {
                let left = bytes.as_bytes().len().saturating_sub(count);
                if left == 0 {
                    put(fields, PyBytes::new(py, b"").as_any())?;
                    return Ok((bytes, 0));
                }
                let (taken, rest) = bytes.as_bytes().split_at(count);
                let taken = PyBytes::new(py, taken);
                put_array(fields, rest)?;
                Ok((taken, left))
            }
            Held::Array(array) => {
                let taken = take(&array, count)?;
                let left = array.len();
                // Two references: the attribute's and ours.
                #[expect(deprecated, reason = "the count has no other name")]
                let unseen = array.get_refcnt() == 2;
                if whole && left == 0 && unseen {
                    put(fields, PyBytes::new(py, b"").as_any())?;
                }
                Ok((taken, left))
            }
        }
    }
}

fn put<'py>(fields: &Bound<'py, PyDict>, buffer: &Bound<'py, PyAny>) -> PyResult<()> {
    set_field(fields, &reader::BUFFER, buffer)
}

/// Makes these bytes the buffer, as a `bytearray`.
#[cold]
fn put_array<'py>(fields: &Bound<'py, PyDict>, bytes: &[u8]) -> PyResult<Bound<'py, PyByteArray>> {
    let array = PyByteArray::new(fields.py(), &[]);
    append(&array, bytes)?;
    put(fields, array.as_any())?;
    Ok(array)
}

/// Makes this object the buffer of a reader whose buffer [is empty](Held::is_empty_bytes).
#[inline]
pub fn hold<'py>(fields: &Bound<'py, PyDict>, bytes: &Bound<'py, PyBytes>) -> PyResult<()> {
    put(fields, bytes.as_any())
}

/// What the program sees under `_buffer`.
#[pyfunction]
pub fn _reader_buffer<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let found = attributes(reader).and_then(|fields| {
        let buffer = field(&fields, &reader::BUFFER)?;
        Some((fields, buffer))
    });
    let Some((fields, buffer)) = found else {
        return Err(no_buffer(reader));
    };
    match buffer.cast_into_exact::<PyBytes>() {
        Ok(bytes) => put_array(&fields, bytes.as_bytes()).map(Bound::into_any),
        Err(error) => Ok(error.into_inner()),
    }
}

/// Puts something else there, or nothing.
#[pyfunction]
#[pyo3(signature = (reader, *buffer))]
pub fn _set_reader_buffer(reader: &Bound<'_, PyAny>, buffer: &Bound<'_, PyTuple>) -> PyResult<()> {
    let fields = attributes(reader).ok_or_else(|| no_buffer(reader))?;
    match buffer.get_item(0) {
        Ok(buffer) => put(&fields, &buffer),
        Err(_) => (fields.del_item(intern!(reader.py(), "_buffer"))).map_err(|_| no_buffer(reader)),
    }
}

fn no_buffer(reader: &Bound<'_, PyAny>) -> PyErr {
    let class = reader.get_type();
    let class = class
        .name()
        .map_or_else(|_| String::new(), |name| name.to_string());
    PyAttributeError::new_err(format!("'{class}' object has no attribute '_buffer'"))
}

/// Appends bytes.
///
/// # Errors
/// `BufferError` when somebody has a view of the buffer, `MemoryError`.
#[inline]
pub fn append(buffer: &Bound<'_, PyByteArray>, bytes: &[u8]) -> PyResult<()> {
    let object = buffer.as_ptr().cast::<ffi::PyByteArrayObject>();
    // SAFETY: the object is a `bytearray`, whose fields are read with the GIL held.
    let bare = unsafe { (*object).ob_alloc == 0 && (*object).ob_exports == 0 };
    if bare && Spares::get(buffer.py()).fill(buffer, bytes) {
        return Ok(());
    }
    let before = buffer.len();
    buffer.resize(before + bytes.len())?;
    // SAFETY: nobody else refers to the memory: the buffer could be resized, so there is no view of it, and
    // no Python code runs meanwhile.
    let memory = unsafe { buffer.as_bytes_mut() };
    memory[before..].copy_from_slice(bytes);
    Ok(())
}

/// Appends what `receive` gives, at most `room` bytes. `receive` must not run Python code.
///
/// # Errors
/// As [`append`].
pub fn append_received<R>(
    buffer: &Bound<'_, PyByteArray>,
    room: usize,
    receive: impl FnOnce(&mut Buffer<'_>) -> R,
) -> PyResult<(R, usize)> {
    let before = buffer.len();
    buffer.resize(before + room)?;
    // SAFETY: as in `append`; the memory is uninitialised where it is new, and `MaybeUninit` is what a
    // `Buffer` is made of.
    let memory = unsafe { slice::from_raw_parts_mut(buffer.data().add(before).cast(), room) };
    let mut memory = Buffer::new(memory);
    let result = receive(&mut memory);
    let count = memory.filled();
    // Nobody has gained a view meanwhile, and becoming shorter needs no memory.
    buffer.resize(before + count)?;
    Ok((result, count))
}

/// Takes the first `count` bytes, or fewer if there are no more.
///
/// # Errors
/// As [`append`].
#[inline]
fn take<'py>(buffer: &Bound<'py, PyByteArray>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
    let count = count.min(buffer.len());
    // SAFETY: the bytes are copied, and meanwhile no Python code runs.
    let taken = PyBytes::new(buffer.py(), unsafe { &buffer.as_bytes()[..count] });
    if count == buffer.len() {
        if !Spares::get(buffer.py()).empty(buffer) {
            buffer.resize(0)?;
        }
    } else {
        // SAFETY: the object is live; the call gives -1 with an exception, or 0.
        let done =
            unsafe { ffi::PySequence_DelSlice(buffer.as_ptr(), 0, count as ffi::Py_ssize_t) };
        if done < 0 {
            return Err(PyErr::fetch(buffer.py()));
        }
    }
    Ok(taken)
}
