//! The fast session: the OpenSSL session beneath an `SSLObject`, driven directly.
//!
//! # Facts
//!
//! `SSLObject.read()` and `.write()` cost a bytes object, two copies through `MemoryBIO`s, an
//! exception for every "nothing more", and the GIL let go and taken again: together as much as the
//! cryptography of a small record. All that is wanted of OpenSSL is `SSL_read` and `SSL_write`.
//!
//! # The choice
//!
//! The `SSL*` of an `SSLObject` lies in the memory of its `_ssl._SSLSocket`. It is given a BIO of
//! ours in the place of the memory BIOs, over the engine's [`Wire`]. Application data goes through
//! `SSL_read_ex` and `SSL_write_ex`; everything else, the handshake above all, through the
//! `SSLObject`, so that its callbacks, its checks and its exceptions are those of the `ssl` module.
//! When OpenSSL fails, its reason is left where it is, and the `SSLObject` is asked to read: what
//! it raises is what it would have raised.
//!
//! # What makes it safe
//!
//! The functions are those of the library that `_ssl` itself has loaded. Where the `SSL*` lies is
//! not guessed: once per process, [`Library::load`] makes an object whose two BIOs are known, and
//! looks for a pointer to memory in which both stand side by side; it reads through the kernel,
//! which says no where a stray pointer would crash. Then every session asks OpenSSL whether the
//! reading BIO of what it found is the one that this connection was made with. Whatever does not
//! fit leaves the connection to the portable session.
//!
//! # Other threads
//!
//! The loop holds the GIL while it reads and writes application data, and while it frees a session's buffers. So
//! what a thread of the program's asks of the `SSLObject` with the GIL held (its certificate, its cipher) cannot
//! meet that. `read`, `write`, `pending`, `do_handshake` and `unwrap` let go of the GIL inside of OpenSSL, which
//! allows one thread at a time to use a session: beside the loop they are the program's mistake, as they are on
//! asyncio's loop. (The `ssl` module of some versions has a lock for each object, which cannot be taken from here.)
//! What is ours stays whole even then: the BIO gives the wire to the thread that it was lent on, and to no other.
//!
//! # What it costs
//!
//! The GIL is held while application data is encrypted and decrypted: about a microsecond for
//! every 4 KiB.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use aioxide::sys::buffer::Buffer;
use aioxide::tls::keepers::Keepers;
use aioxide::tls::session::{Progress, Reading, TlsSession, Wire};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};

use super::{TlsObjects, close_notify, do_handshake, unclean_end};
use crate::errors::Exception;
use crate::host::PyHost;
use crate::imports;

/// OpenSSL's `SSL`, `BIO` and `BIO_METHOD`: what they are made of is its own business.
type Ssl = c_void;
type Bio = c_void;
type BioMethod = c_void;

const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;

const SSL_CTRL_CLEAR_MODE: c_int = 78;
const SSL_MODE_RELEASE_BUFFERS: c_long = 0x10;

/// `BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY`: nothing is there yet.
const BIO_RETRY_READ: c_int = 0x01 | 0x08;
/// `BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY`.
const BIO_RETRY_WRITE: c_int = 0x02 | 0x08;
const BIO_CTRL_PENDING: c_int = 10;
const BIO_CTRL_FLUSH: c_int = 11;
/// `BIO_TYPE_SOURCE_SINK`.
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;

type ReadBio = unsafe extern "C" fn(*mut Bio, *mut c_char, usize, *mut usize) -> c_int;
type WriteBio = unsafe extern "C" fn(*mut Bio, *const c_char, usize, *mut usize) -> c_int;
type ControlBio = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;

/// Names OpenSSL's functions, with their types.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        #[allow(non_snake_case)]
        impl Functions {
            /// Finds them in a library and what that has loaded.
            ///
            /// # Safety
            /// The library must be one whose functions of these names are OpenSSL's.
            unsafe fn find(library: *mut c_void) -> Option<Functions> {
                $(
                    let name = concat!(stringify!($name), "\0").as_ptr().cast();
                    // SAFETY: the name ends with a zero; the handle is one of dlopen's.
                    let $name = unsafe { libc::dlsym(library, name) };
                    if $name.is_null() {
                        return None;
                    }
                )*
                Some(Functions {
                    // SAFETY: the caller says that these are OpenSSL's functions; their types are
                    // those of its documentation.
                    $($name: unsafe {
                        std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($argument),*) $(-> $result)?,
                        >($name)
                    },)*
                })
            }
        }
    };
}

functions! {
    OpenSSL_version_num: fn() -> c_ulong;
    ERR_peek_error: fn() -> c_ulong;
    ERR_clear_error: fn();
    SSL_read_ex: fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    SSL_write_ex: fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    SSL_get_error: fn(*const Ssl, c_int) -> c_int;
    SSL_ctrl: fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    SSL_free_buffers: fn(*mut Ssl) -> c_int;
    SSL_pending: fn(*const Ssl) -> c_int;
    SSL_get_rbio: fn(*const Ssl) -> *mut Bio;
    SSL_set_bio: fn(*mut Ssl, *mut Bio, *mut Bio);
    BIO_get_new_index: fn() -> c_int;
    BIO_meth_new: fn(c_int, *const c_char) -> *mut BioMethod;
    BIO_meth_set_read_ex: fn(*mut BioMethod, ReadBio) -> c_int;
    BIO_meth_set_write_ex: fn(*mut BioMethod, WriteBio) -> c_int;
    BIO_meth_set_ctrl: fn(*mut BioMethod, ControlBio) -> c_int;
    BIO_new: fn(*const BioMethod) -> *mut Bio;
    BIO_set_init: fn(*mut Bio, c_int);
    BIO_set_data: fn(*mut Bio, *mut c_void);
    BIO_get_data: fn(*mut Bio) -> *mut c_void;
    BIO_set_flags: fn(*mut Bio, c_int);
}

impl Functions {
    /// Empties this thread's queue of errors: somebody else's would be taken for the next call's. (That a read
    /// wants more does not say that there is no error: a refused renegotiation leaves one and goes on.)
    fn forget_errors(&self) {
        // SAFETY: neither takes anything. Looking is cheaper than clearing.
        unsafe {
            if (self.ERR_peek_error)() != 0 {
                (self.ERR_clear_error)();
            }
        }
    }
}

/// The OpenSSL that the `ssl` module uses.
pub struct Library {
    functions: Functions,
    method: *mut BioMethod,
    /// `_ssl._SSLSocket`.
    class: Py<PyType>,
    /// Where its objects have their `SSL*`, in words.
    position: usize,
    /// Whether a session's buffers can be freed whenever it does not work.
    frees_buffers: bool,
}

// SAFETY: the method is not changed after it was made; OpenSSL's functions may be called from any
// thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The library, or why the portable session is used.
static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();

/// The library, looked for when it is first asked for.
///
/// # Errors
/// Why there is none to be used.
pub fn library(py: Python<'_>) -> Result<&'static Library, &'static str> {
    if LIBRARY.get().is_none() {
        // A process that has run out of descriptors looks again when it has some.
        let Ok(memory) = Memory::new() else {
            return Err("there is no descriptor left to look for OpenSSL's session with");
        };
        let loaded = Library::load(py, &memory);
        // Another thread may have been faster.
        let _ = LIBRARY.set(loaded);
    }
    match LIBRARY.get() {
        Some(Ok(library)) => Ok(library),
        Some(Err(reason)) => Err(reason),
        None => Err("it was not looked for"),
    }
}

impl Library {
    fn load(py: Python<'_>, memory: &Memory) -> Result<Library, String> {
        let failed = |error: PyErr| error.to_string();
        let ssl = py.import("ssl").map_err(failed)?;
        let get = |name: &str| ssl.getattr(name).map_err(failed);
        let name: String = get("OPENSSL_VERSION")?.extract().map_err(failed)?;
        if !name.starts_with("OpenSSL ") {
            return Err(format!("the ssl module uses {name}, not OpenSSL"));
        }
        let version: c_ulong = get("OPENSSL_VERSION_NUMBER")?.extract().map_err(failed)?;
        let module = py.import("_ssl").map_err(failed)?;
        let file = module.getattr("__file__").and_then(|file| file.extract());
        let handle = open_library(file.ok())?;
        // SAFETY: the handle is the `_ssl` module, or the program that contains it, which says that
        // it is built on OpenSSL; what it has loaded comes first.
        let functions = unsafe { Functions::find(handle) }
            .ok_or("the functions of the ssl module's OpenSSL are not visible")?;
        // SAFETY: the function takes nothing and gives a number.
        if unsafe { (functions.OpenSSL_version_num)() } != version {
            return Err("another OpenSSL than the ssl module's was found".to_owned());
        }
        let method = bio_method(&functions)?;
        let (class, position) = Library::find_session(&ssl, memory)?;
        let library = Library {
            functions,
            method,
            class,
            position,
            frees_buffers: frees_buffers(version),
        };
        Ok(library)
    }

    /// Looks where an object has its `SSL*`.
    fn find_session(
        ssl: &Bound<'_, PyModule>,
        memory: &Memory,
    ) -> Result<(Py<PyType>, usize), String> {
        let failed = |error: PyErr| error.to_string();
        let make = || -> PyResult<_> {
            let context = ssl.getattr("SSLContext")?;
            let context = context.call1((ssl.getattr("PROTOCOL_TLS_CLIENT")?,))?;
            context.setattr("check_hostname", false)?;
            let bio = || ssl.getattr("MemoryBIO")?.call0();
            let (incoming, outgoing) = (bio()?, bio()?);
            let object = context.call_method1("wrap_bio", (&incoming, &outgoing))?;
            let session = object.getattr("_sslobj")?;
            let class = session.get_type();
            let size: usize = class.getattr("__basicsize__")?.extract()?;
            let bio_size: usize = incoming.get_type().getattr("__basicsize__")?.extract()?;
            Ok((incoming, outgoing, session, class, size, bio_size))
        };
        let (incoming, outgoing, session, class, size, bio_size) = make().map_err(failed)?;
        if bio_size < (FIRST_FIELD + 1) * WORD {
            return Err("a MemoryBIO has no room for a pointer".to_owned());
        }
        // SAFETY: the objects are alive, and as large as their classes say.
        let (incoming, outgoing) = unsafe {
            (
                word(incoming.as_ptr(), FIRST_FIELD),
                word(outgoing.as_ptr(), FIRST_FIELD),
            )
        };
        let fits = |position: &usize| {
            // SAFETY: as above.
            let candidate = unsafe { word(session.as_ptr(), *position) };
            let words = memory.words(candidate);
            words.windows(2).any(|pair| pair == [incoming, outgoing])
        };
        let found = (FIRST_FIELD..size / WORD).find(fits);
        let position = found.ok_or("the memory of the ssl module's objects is not as expected")?;
        Ok((class.unbind(), position))
    }

    /// The OpenSSL session of an object that was made with these BIOs.
    fn session(&self, py: Python<'_>, objects: &TlsObjects) -> PyResult<Option<*mut Ssl>> {
        if !is_plain(py, objects)? {
            return Ok(None);
        }
        let Ok(object) = objects.object.bind(py).getattr(intern!(py, "_sslobj")) else {
            return Ok(None);
        };
        if !object.get_type().is(self.class.bind(py)) {
            return Ok(None);
        }
        // SAFETY: the object is alive and of the class in which `load` has found an `SSL*` at this
        // position; it has one from its beginning to its end. The other is a MemoryBIO, which
        // TlsOptions has made.
        let (session, bio) = unsafe {
            (
                word(object.as_ptr(), self.position) as *mut Ssl,
                word(objects.incoming.as_ptr(), FIRST_FIELD) as *mut Bio,
            )
        };
        // SAFETY: an `SSL*`, as above.
        let known = !session.is_null() && unsafe { (self.functions.SSL_get_rbio)(session) } == bio;
        if known {
            // It lives as long as this connection, whatever becomes of the object.
            let _ = objects.session.set(object.unbind());
        }
        Ok(known.then_some(session))
    }
}

/// Whether what is done without an `SSLObject`'s methods is what they would do: they are not
/// overridden (`SSLContext.sslobject_class`), and nobody listens to the messages, with exceptions to
/// raise.
fn is_plain(py: Python<'_>, objects: &TlsObjects) -> PyResult<bool> {
    let class = objects.object.bind(py).get_type();
    let plain = imports::ssl_object(py)?;
    for method in [intern!(py, "read"), intern!(py, "write")] {
        if !class.getattr(method)?.is(&plain.getattr(method)?) {
            return Ok(false);
        }
    }
    let listener = objects
        .context
        .bind(py)
        .getattr(intern!(py, "_msg_callback"));
    Ok(listener.is_ok_and(|listener| listener.is_none()))
}

/// The handle of a module, or of the program itself if the module is part of it.
fn open_library(file: Option<String>) -> Result<*mut c_void, String> {
    let file = file.map(CString::new).transpose();
    let file = file.map_err(|_| "the ssl module's file has an impossible name".to_owned())?;
    let name = file.as_deref().map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the name is null or ends with a zero. Nothing is loaded that is not loaded already:
    // no initialiser runs. The handle is never given back.
    let handle = unsafe { libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return Err("the ssl module is not a library of its own".to_owned());
    }
    Ok(handle)
}

fn bio_method(functions: &Functions) -> Result<*mut BioMethod, String> {
    // SAFETY: the functions are OpenSSL's, called as its documentation says; the name is static.
    // The method lives as long as the process.
    unsafe {
        let index = (functions.BIO_get_new_index)();
        let kind = index | BIO_TYPE_SOURCE_SINK;
        let method = (functions.BIO_meth_new)(kind, c"aioxide".as_ptr());
        if index < 0 || method.is_null() {
            return Err("OpenSSL makes no BIO method".to_owned());
        }
        (functions.BIO_meth_set_read_ex)(method, read_bio);
        (functions.BIO_meth_set_write_ex)(method, write_bio);
        (functions.BIO_meth_set_ctrl)(method, control_bio);
        Ok(method)
    }
}

/// Whether `SSL_free_buffers` refuses when something is left in them, also of a record that is not whole
/// yet: in earlier versions it did not always (CVE-2024-4741).
fn frees_buffers(version: c_ulong) -> bool {
    let [major, minor, patch] = [version >> 28, version >> 20 & 0xff, version >> 4 & 0xff];
    match (major, minor) {
        (..3, _) => false,
        (3, 0) => patch >= 14,
        (3, 1) => patch >= 6,
        (3, 2) => patch >= 2,
        (3, 3) => patch >= 1,
        _ => true,
    }
}

// ---- memory ----

const WORD: usize = size_of::<usize>();

/// The first word of an object's own, behind its reference count and its type.
const FIRST_FIELD: usize = size_of::<ffi::PyObject>() / WORD;

/// Words of an `SSL` that are looked at: its BIOs stand among the first dozen.
const SESSION_WORDS: usize = 32;

/// A word of an object's memory.
///
/// # Safety
/// The object must be alive, and larger than that.
unsafe fn word(object: *mut ffi::PyObject, position: usize) -> usize {
    // SAFETY: the caller's business; objects are aligned to words.
    unsafe { object.cast::<usize>().add(position).read() }
}

/// Reads memory that may not be there.
struct Memory {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Memory {
    fn new() -> std::io::Result<Memory> {
        let mut ends = [0; 2];
        // SAFETY: the array has room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: both were just opened, and belong to nobody else.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        Ok(Memory { reader, writer })
    }

    /// What stands at an address, as far as it can be read: through a pipe, because the kernel gives
    /// an error (`EFAULT`) where a read of our own would end the process.
    fn words(&self, address: usize) -> Vec<usize> {
        let mut words = vec![0; SESSION_WORDS];
        let size = SESSION_WORDS * WORD;
        if address == 0 || !address.is_multiple_of(WORD) {
            return Vec::new();
        }
        // SAFETY: write(2) only reads the memory, and says so when it cannot.
        let written = unsafe {
            let from = ptr::without_provenance(address);
            libc::write(self.writer.as_raw_fd(), from, size)
        };
        if written <= 0 {
            return Vec::new();
        }
        // SAFETY: the vector has room for as many bytes.
        let read = unsafe { libc::read(self.reader.as_raw_fd(), words.as_mut_ptr().cast(), size) };
        words.truncate(usize::try_from(read).unwrap_or_default() / WORD);
        words
    }
}

// ---- the BIO ----

/// What a BIO reads from and writes to.
///
/// A thread of the program's may use the `SSLObject` by itself, without the GIL (see the head of this file). It
/// looks at `owner`, and then at nothing but `written`: the cells belong to the owner.
struct Link {
    /// The thread that has lent the wire last: the loop's.
    owner: AtomicUsize,
    /// What it was lent: only while a session works, else null.
    wire: Cell<*mut Wire>,
    /// Whether OpenSSL has asked for more than there was, in the call that it is in or was in last.
    wanted: Cell<bool>,
    /// What the program has written through the `SSLObject`, by itself. It leaves with what the next
    /// work of the session leaves behind.
    written: Mutex<Vec<u8>>,
    /// Whether it has. Looking is cheaper than locking.
    has_written: AtomicBool,
}

/// The name of the thread that asks.
fn this_thread() -> usize {
    // SAFETY: it takes nothing, and cannot fail.
    let thread = unsafe { libc::pthread_self() };
    thread as usize
}

impl Link {
    /// Whether the wire may be asked for.
    fn is_owner(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == this_thread()
    }

    /// The wire, for the thread that has lent it.
    ///
    /// # Safety
    /// The reference must not outlive the call that the BIO was asked in, and there must be no other.
    #[expect(clippy::mut_from_ref, reason = "it is lent through a pointer")]
    unsafe fn wire(&self) -> Option<&mut Wire> {
        if !self.is_owner() {
            return None;
        }
        // SAFETY: null, or the wire that `Lent` has put there, exclusively borrowed until it takes it
        // away again, which is done on this thread.
        unsafe { self.wire.get().as_mut() }
    }

    /// Takes what the program has written by itself.
    fn take_written(&self) -> Option<Vec<u8>> {
        if !self.has_written.load(Ordering::Relaxed) {
            return None;
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_written.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut written))
    }
}

/// The link of a BIO, while there is a session.
///
/// # Safety
/// The BIO must be one of [`bio_method`]'s, and the reference must not outlive the call that the BIO
/// was asked in.
unsafe fn link<'a>(bio: *mut Bio) -> Option<&'a Link> {
    let Some(Ok(library)) = LIBRARY.get() else {
        return None;
    };
    // SAFETY: a BIO of ours has as its data the link of its session, or null when that has gone.
    unsafe {
        (library.functions.BIO_get_data)(bio)
            .cast::<Link>()
            .as_ref()
    }
}

fn retry(bio: *mut Bio, flags: c_int) -> c_int {
    if let Some(Ok(library)) = LIBRARY.get() {
        // SAFETY: OpenSSL has called us with this BIO.
        unsafe { (library.functions.BIO_set_flags)(bio, flags) };
    }
    -1
}

unsafe extern "C" fn read_bio(
    bio: *mut Bio,
    data: *mut c_char,
    size: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: OpenSSL calls the method of the BIO that it belongs to.
    let Some(link) = (unsafe { link(bio) }) else {
        return retry(bio, BIO_RETRY_READ);
    };
    // OpenSSL looks at a BIO's flags when it gives nothing, so they stay as the last retry has left them.
    // SAFETY: as above; the wire is not asked for again in this call.
    let wire = unsafe { link.wire() };
    let incoming = wire.map(|wire| &mut wire.incoming);
    let Some(incoming) = incoming.filter(|incoming| !incoming.is_empty()) else {
        if link.is_owner() {
            link.wanted.set(true);
        }
        return retry(bio, BIO_RETRY_READ);
    };
    let unread = incoming.unread();
    let taken = unread.len().min(size);
    // SAFETY: OpenSSL gives memory of `size` bytes, which is not the wire's, and memory for their number.
    unsafe {
        ptr::copy_nonoverlapping(unread.as_ptr(), data.cast::<u8>(), taken);
        count.write(taken);
    }
    incoming.advance(taken);
    1
}

unsafe extern "C" fn write_bio(
    bio: *mut Bio,
    data: *const c_char,
    size: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: as in `read_bio`.
    let Some(link) = (unsafe { link(bio) }) else {
        return retry(bio, BIO_RETRY_WRITE);
    };
    // SAFETY: OpenSSL calls with its BIO, gives `size` bytes, and memory for the number of those that were taken.
    let bytes = unsafe {
        count.write(size);
        std::slice::from_raw_parts(data.cast::<u8>(), size)
    };
    // SAFETY: as in `read_bio`.
    if let Some(wire) = unsafe { link.wire() } {
        wire.outgoing.extend_from_slice(bytes);
        return 1;
    }
    let mut written = link.written.lock().unwrap_or_else(PoisonError::into_inner);
    written.extend_from_slice(bytes);
    link.has_written.store(true, Ordering::Relaxed);
    1
}

unsafe extern "C" fn control_bio(
    bio: *mut Bio,
    command: c_int,
    _number: c_long,
    _pointer: *mut c_void,
) -> c_long {
    match command {
        BIO_CTRL_FLUSH => 1,
        BIO_CTRL_PENDING => {
            // SAFETY: as in `read_bio`.
            let wire = unsafe { link(bio).and_then(|link| link.wire()) };
            wire.map_or(0, |wire| wire.incoming.len() as c_long)
        }
        _ => 0,
    }
}

// ---- OpenSSL's buffers ----

/// The buffers for records of one session.
pub struct Buffers {
    library: &'static Library,
    /// Null when the session has gone.
    session: Cell<*mut Ssl>,
    /// Whether OpenSSL works on the session.
    at_work: Cell<bool>,
    /// Whether they are kept: among the loop's [`Keepers`].
    kept: Cell<bool>,
    /// The turn in which the session has worked last.
    last: Cell<Option<u64>>,
}

impl Buffers {
    /// Of a session that has not begun. `None` where the `ssl` module's way is the only one.
    fn of(library: &'static Library, session: *mut Ssl) -> Option<Rc<Buffers>> {
        if !library.frees_buffers {
            return None;
        }
        // From now on OpenSSL keeps them until it is told to free them. In the beginning, because since 3.2 it
        // does not look at the mode again when it writes.
        // SAFETY: an `SSL*`; this command takes a number, and no pointer.
        unsafe {
            let release = SSL_MODE_RELEASE_BUFFERS;
            (library.functions.SSL_ctrl)(session, SSL_CTRL_CLEAR_MODE, release, ptr::null_mut());
        }
        Some(Rc::new(Buffers {
            library,
            session: Cell::new(session),
            at_work: Cell::new(false),
            kept: Cell::new(false),
            last: Cell::new(None),
        }))
    }

    /// Frees them. What is in use stays, until this is called after it was used.
    fn free(&self) {
        let session = self.session.get();
        if !session.is_null() && !self.at_work.get() {
            // SAFETY: the session lives, and OpenSSL is not at work on it.
            unsafe { (self.library.functions.SSL_free_buffers)(session) };
        }
    }

    /// The session has worked, on something that was received or not. Keeps them, or not.
    fn worked(self: &Rc<Self>, received: bool, keepers: &Keepers<Buffers>) {
        if received && keepers.is_busy(&self.last) && !self.kept.replace(true) {
            let displaced = keepers.add(Rc::clone(self));
            if let Some(displaced) = displaced {
                displaced.kept.set(false);
                displaced.free();
            }
        }
        if !self.kept.get() {
            self.free();
        }
    }
}

// ---- the session ----

/// A session that drives OpenSSL.
pub struct OpenSsl {
    objects: Rc<TlsObjects>,
    library: &'static Library,
    /// Belongs to the object, which lives as long as this.
    session: *mut Ssl,
    /// Belongs to the session.
    bio: *mut Bio,
    /// Ours, from `Box::into_raw`; the BIO refers to it too.
    link: *mut Link,
    /// `None` where OpenSSL frees them by itself.
    buffers: Option<Rc<Buffers>>,
    keepers: Rc<Keepers<Buffers>>,
}

impl OpenSsl {
    /// A session over the objects' own, if that can be done.
    pub fn new(
        py: Python<'_>,
        library: &'static Library,
        objects: &Rc<TlsObjects>,
        keepers: &Rc<Keepers<Buffers>>,
    ) -> PyResult<Option<OpenSsl>> {
        let Some(session) = library.session(py, objects)? else {
            return Ok(None);
        };
        let functions = &library.functions;
        // SAFETY: OpenSSL's functions, called as its documentation says. The session takes the one
        // reference to the new BIO for both directions, and gives up those to the memory BIOs, which
        // have another owner.
        let (bio, link) = unsafe {
            let bio = (functions.BIO_new)(library.method);
            if bio.is_null() {
                return Ok(None);
            }
            let link = Box::into_raw(Box::new(Link {
                owner: AtomicUsize::new(this_thread()),
                wire: Cell::new(ptr::null_mut()),
                wanted: Cell::new(false),
                written: Mutex::default(),
                has_written: AtomicBool::new(false),
            }));
            (functions.BIO_set_init)(bio, 1);
            (functions.BIO_set_data)(bio, link.cast());
            (functions.SSL_set_bio)(session, bio, bio);
            (bio, link)
        };
        Ok(Some(OpenSsl {
            objects: Rc::clone(objects),
            library,
            session,
            bio,
            link,
            buffers: Buffers::of(library, session),
            keepers: Rc::clone(keepers),
        }))
    }

    /// Lends the wire to the BIO, until what this gives is dropped.
    fn lend<'a>(&'a self, wire: &'a mut Wire) -> Lent<'a> {
        let link = self.link();
        if let Some(mut written) = link.take_written() {
            wire.outgoing.append(&mut written);
        }
        link.owner.store(this_thread(), Ordering::Relaxed);
        link.wire.set(wire);
        link.wanted.set(false);
        let buffers = self.buffers.as_deref();
        if let Some(buffers) = buffers {
            buffers.at_work.set(true);
        }
        Lent {
            link,
            buffers,
            borrowed: PhantomData,
        }
    }

    fn link(&self) -> &Link {
        // SAFETY: `new` has made it, and only dropping this frees it; everybody has it shared.
        unsafe { &*self.link }
    }

    /// The session has worked, on something that was received or not.
    fn worked(&self, received: bool) {
        if let Some(buffers) = &self.buffers {
            buffers.worked(received, &self.keepers);
        }
    }

    /// Lets the `SSLObject` work.
    fn with_object<R>(
        &self,
        wire: &mut Wire,
        work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Result<R, Exception> {
        let lent = self.lend(wire);
        let result = Python::attach(|py| work(self.objects.object.bind(py))).map_err(Exception);
        drop(lent);
        self.worked(false);
        result
    }

    /// What the `ssl` module says of OpenSSL's last error, which is still in its queue.
    fn exception(&self) -> Exception {
        Python::attach(|py| {
            let session = self.objects.session.get();
            let read = session.map(|session| session.call_method1(py, intern!(py, "read"), (1,)));
            let error = match read {
                Some(Err(error)) => error,
                Some(Ok(_)) | None => {
                    PyRuntimeError::new_err("the TLS session has failed for no known reason")
                }
            };
            Exception(error)
        })
    }

    fn read_records(
        &self,
        wire: &mut Wire,
        plaintext: &mut Buffer<'_>,
    ) -> Result<Reading, Exception> {
        let functions = &self.library.functions;
        let lent = self.lend(wire);
        functions.forget_errors();
        while plaintext.room() > 0 {
            let mut result = 0;
            // SAFETY: the session lives; OpenSSL writes at most as many bytes as there is room for,
            // and says how many. The thread is attached (the engine runs on no other), so nobody
            // else uses the session.
            let read = unsafe {
                plaintext.write_with(|room| {
                    let mut count = 0;
                    result = (functions.SSL_read_ex)(
                        self.session,
                        room.as_mut_ptr().cast(),
                        room.len(),
                        &raw mut count,
                    );
                    Ok::<_, Exception>(if result > 0 { count } else { 0 })
                })
            };
            if read? > 0 {
                // Most often there is one record, and asking for more takes half as long as it did.
                if lent.is_drained() && self.pending() == 0 {
                    return Ok(Reading::Blocked);
                }
                continue;
            }
            // SAFETY: as above, directly after the call that it asks about.
            return match unsafe { (functions.SSL_get_error)(self.session, result) } {
                SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Ok(Reading::Blocked),
                SSL_ERROR_ZERO_RETURN => Ok(Reading::End),
                _ => Err(self.exception()),
            };
        }
        Ok(Reading::Full)
    }

    fn write_records(&self, wire: &mut Wire, plaintext: &[u8]) -> Result<usize, Exception> {
        let functions = &self.library.functions;
        let lent = self.lend(wire);
        let mut count = 0;
        // SAFETY: the session lives; OpenSSL reads the bytes and says how many of them. As in
        // `read`, nobody else uses the session.
        let result = unsafe {
            let bytes = plaintext.as_ptr().cast();
            (functions.SSL_write_ex)(self.session, bytes, plaintext.len(), &raw mut count)
        };
        if result > 0 {
            return Ok(count);
        }
        // Nobody's error can be taken for this: either OpenSSL has to receive first, or it has failed, and
        // its error is the last one.
        if lent.wants_more() {
            return Ok(0);
        }
        Err(self.exception())
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        if let Some(buffers) = &self.buffers {
            buffers.session.set(ptr::null_mut());
        }
        // The BIO may live on, with the object.
        // SAFETY: the BIO is the session's, which lives as long as `objects`. After this nobody
        // refers to the link, which `new` has made.
        unsafe {
            (self.library.functions.BIO_set_data)(self.bio, ptr::null_mut());
            drop(Box::from_raw(self.link));
        }
    }
}

/// A BIO that has the wire.
struct Lent<'a> {
    link: &'a Link,
    buffers: Option<&'a Buffers>,
    borrowed: PhantomData<&'a mut Wire>,
}

impl Lent<'_> {
    /// Whether OpenSSL has taken everything that was received.
    fn is_drained(&self) -> bool {
        // SAFETY: OpenSSL is not at work, so nobody else has the wire.
        let wire = unsafe { self.link.wire() };
        wire.is_none_or(|wire| wire.incoming.is_empty())
    }

    /// Whether OpenSSL could not go on without more.
    fn wants_more(&self) -> bool {
        self.link.wanted.get()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.link.wire.set(ptr::null_mut());
        if let Some(buffers) = self.buffers {
            buffers.at_work.set(false);
        }
    }
}

impl TlsSession<PyHost> for OpenSsl {
    fn handshake(&mut self, wire: &mut Wire) -> Result<Progress, Exception> {
        self.with_object(wire, do_handshake)
    }

    fn read(&mut self, wire: &mut Wire, plaintext: &mut Buffer<'_>) -> Result<Reading, Exception> {
        let reading = self.read_records(wire, plaintext);
        self.worked(true);
        reading
    }

    fn write(&mut self, wire: &mut Wire, plaintext: &[u8]) -> Result<usize, Exception> {
        let written = self.write_records(wire, plaintext);
        self.worked(false);
        written
    }

    fn close(&mut self, wire: &mut Wire) -> Result<(), Exception> {
        self.with_object(wire, close_notify)
    }

    fn pending(&self) -> usize {
        // SAFETY: the session lives.
        let pending = unsafe { (self.library.functions.SSL_pending)(self.session) };
        usize::try_from(pending).unwrap_or_default()
    }

    fn truncated(&mut self, wire: &Wire) -> Option<Exception> {
        unclean_end(wire, &self.objects)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
