//! The floor of Python's rows over TLS: an epoll loop around OpenSSL.
//!
//! It uses the very library that the interpreter's `ssl` module has loaded (`--library`), without its
//! headers: the few functions are found by name. OpenSSL receives from the socket itself, into a buffer
//! large enough for one recv per request; what it encrypts is collected and leaves with one send.

use std::error::Error;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use aioxide_bench::raw_epoll::{Echo, serve};
use aioxide_bench::{Flags, Listener, RECEIVE_BUFFER};

// Numbers of OpenSSL's headers, the same from 1.1.1 to 3.x.
const SSL_FILETYPE_PEM: c_int = 1;
const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const BIO_CTRL_FLUSH: c_int = 11;
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const SSL_CTRL_MODE: c_int = 33;
const SSL_MODE_ENABLE_PARTIAL_WRITE: c_long = 1;
const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER: c_long = 2;

/// OpenSSL's structures: their insides are its own business.
type Context = c_void;
type Ssl = c_void;
type Bio = c_void;
type BioMethod = c_void;

type WriteBio = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
type ControlBio = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;

/// Names OpenSSL's functions, with their types, and finds them.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            fn find(library: *mut c_void) -> Result<Functions, String> {
                Ok(Functions {
                    // SAFETY: the types are those of OpenSSL's documentation.
                    $($name: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                            find(library, stringify!($name))?,
                        )
                    },)*
                })
            }
        }
    };
}

functions! {
    TLS_server_method: fn() -> *const c_void;
    SSL_CTX_new: fn(*const c_void) -> *mut Context;
    SSL_CTX_ctrl: fn(*mut Context, c_int, c_long, *mut c_void) -> c_long;
    SSL_CTX_set_default_read_buffer_len: fn(*mut Context, usize);
    SSL_CTX_use_certificate_chain_file: fn(*mut Context, *const c_char) -> c_int;
    SSL_CTX_use_PrivateKey_file: fn(*mut Context, *const c_char, c_int) -> c_int;
    SSL_new: fn(*mut Context) -> *mut Ssl;
    SSL_free: fn(*mut Ssl);
    SSL_set_accept_state: fn(*mut Ssl);
    SSL_set_read_ahead: fn(*mut Ssl, c_int);
    SSL_set_fd: fn(*mut Ssl, c_int) -> c_int;
    SSL_set0_wbio: fn(*mut Ssl, *mut Bio);
    SSL_read: fn(*mut Ssl, *mut c_void, c_int) -> c_int;
    SSL_write: fn(*mut Ssl, *const c_void, c_int) -> c_int;
    SSL_has_pending: fn(*const Ssl) -> c_int;
    SSL_get_error: fn(*const Ssl, c_int) -> c_int;
    BIO_get_new_index: fn() -> c_int;
    BIO_meth_new: fn(c_int, *const c_char) -> *mut BioMethod;
    BIO_meth_set_write: fn(*mut BioMethod, WriteBio) -> c_int;
    BIO_meth_set_ctrl: fn(*mut BioMethod, ControlBio) -> c_int;
    BIO_new: fn(*const BioMethod) -> *mut Bio;
    BIO_set_init: fn(*mut Bio, c_int);
    BIO_set_data: fn(*mut Bio, *mut c_void);
    BIO_get_data: fn(*mut Bio) -> *mut c_void;
    ERR_clear_error: fn();
}

fn find(library: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let missing = || format!("the library has no {name}");
    let symbol = CString::new(name).map_err(|_| missing())?;
    // SAFETY: the handle is open, the name ends with a zero. Some are in the library
    // beneath libssl, which dlsym searches too.
    let found = unsafe { libc::dlsym(library, symbol.as_ptr()) };
    if found.is_null() {
        return Err(missing());
    }
    Ok(found)
}

/// Found once, for the function of ours that OpenSSL calls, too.
static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

unsafe extern "C" fn write_bio(bio: *mut Bio, data: *const c_char, size: c_int) -> c_int {
    let Some(functions) = FUNCTIONS.get() else {
        return -1;
    };
    // SAFETY: the BIO is one of ours, so its data is the server's vector, which outlives it and which nobody refers to
    // while OpenSSL works; OpenSSL gives `size` bytes.
    unsafe {
        let collected = &mut *(functions.BIO_get_data)(bio).cast::<Vec<u8>>();
        collected.extend_from_slice(std::slice::from_raw_parts(data.cast(), size as usize));
    }
    size
}

unsafe extern "C" fn control_bio(_: *mut Bio, command: c_int, _: c_long, _: *mut c_void) -> c_long {
    c_long::from(command == BIO_CTRL_FLUSH)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = Flags::from_command_line()?;
    let library: PathBuf = flags.required("library")?;
    let certificate: PathBuf = flags.required("certificate")?;
    let listener = Listener::as_told(flags)?;
    serve(listener, OpenSsl::new(library, certificate)?)
}

struct OpenSsl {
    functions: &'static Functions,
    context: *mut Context,
    method: *mut BioMethod,
    plaintext: Vec<u8>,
    /// What the session at work has encrypted. From `Box::into_raw`: all BIOs refer to it, until the process ends.
    ciphertext: *mut Vec<u8>,
}

struct Session {
    ssl: *mut Ssl,
    functions: &'static Functions,
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: ours, and nobody has it any more. It frees its BIOs; the socket's does not close the socket.
        unsafe { (self.functions.SSL_free)(self.ssl) };
    }
}

fn c_path(path: PathBuf) -> Result<CString, Box<dyn Error>> {
    Ok(CString::new(OsString::from(path).into_vec())?)
}

impl OpenSsl {
    fn new(library: PathBuf, certificate: PathBuf) -> Result<OpenSsl, Box<dyn Error>> {
        let (library, certificate) = (c_path(library)?, c_path(certificate)?);
        // SAFETY: a name that ends with a zero; what the library runs when it is loaded is OpenSSL's own.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return Err(format!("{library:?} cannot be loaded").into());
        }
        let found = Functions::find(handle)?;
        let functions = FUNCTIONS.get_or_init(|| found);
        let modes = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
        let pem = certificate.as_ptr();
        // SAFETY: OpenSSL's functions, called as its documentation says; strings end with a zero.
        let (context, method, certified) = unsafe {
            let context = (functions.SSL_CTX_new)((functions.TLS_server_method)());
            if context.is_null() {
                return Err("OpenSSL makes no context".into());
            }
            (functions.SSL_CTX_ctrl)(context, SSL_CTRL_MODE, modes, ptr::null_mut());
            (functions.SSL_CTX_set_default_read_buffer_len)(context, RECEIVE_BUFFER);
            let chain = (functions.SSL_CTX_use_certificate_chain_file)(context, pem);
            let key = (functions.SSL_CTX_use_PrivateKey_file)(context, pem, SSL_FILETYPE_PEM);
            let kind = (functions.BIO_get_new_index)() | BIO_TYPE_SOURCE_SINK;
            let name: &CStr = c"collect";
            let method = (functions.BIO_meth_new)(kind, name.as_ptr());
            if method.is_null() {
                return Err("OpenSSL makes no BIO method".into());
            }
            (functions.BIO_meth_set_write)(method, write_bio);
            (functions.BIO_meth_set_ctrl)(method, control_bio);
            (context, method, chain == 1 && key == 1)
        };
        if !certified {
            return Err(format!("{certificate:?} has no certificate and key").into());
        }
        Ok(OpenSsl {
            functions,
            context,
            method,
            plaintext: vec![0; RECEIVE_BUFFER],
            ciphertext: Box::into_raw(Box::default()),
        })
    }

    /// Reads all there is, as far as there is room; how much, and whether it was the client's end.
    fn read(&mut self, ssl: *mut Ssl) -> io::Result<(usize, bool)> {
        let mut count = 0;
        loop {
            let room = &mut self.plaintext[count..];
            // SAFETY: the session lives, and the buffer has room for as many bytes.
            let result = unsafe {
                (self.functions.SSL_read)(ssl, room.as_mut_ptr().cast(), room.len() as c_int)
            };
            if result > 0 {
                count += result as usize;
                // SAFETY: the session lives.
                if count < RECEIVE_BUFFER && unsafe { (self.functions.SSL_has_pending)(ssl) } == 1 {
                    continue;
                }
                return Ok((count, false));
            }
            // SAFETY: as above, directly after the call that it asks about.
            let error = unsafe { (self.functions.SSL_get_error)(ssl, result) };
            // SAFETY: needs nothing.
            unsafe { (self.functions.ERR_clear_error)() };
            return match error {
                SSL_ERROR_WANT_READ => Ok((count, false)),
                SSL_ERROR_ZERO_RETURN => Ok((count, true)),
                _ => Err(io::Error::other("the TLS session has failed")),
            };
        }
    }
}

impl Echo for OpenSsl {
    type Session = Session;

    fn accept(&mut self, stream: &OwnedFd) -> io::Result<Session> {
        let functions = self.functions;
        // SAFETY: OpenSSL's functions, called as its documentation says. The session owns both BIOs.
        unsafe {
            let ssl = (functions.SSL_new)(self.context);
            let output = (functions.BIO_new)(self.method);
            if ssl.is_null() || output.is_null() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            (functions.BIO_set_init)(output, 1);
            (functions.BIO_set_data)(output, self.ciphertext.cast());
            (functions.SSL_set_accept_state)(ssl);
            (functions.SSL_set_read_ahead)(ssl, 1);
            (functions.SSL_set_fd)(ssl, stream.as_raw_fd());
            (functions.SSL_set0_wbio)(ssl, output);
            Ok(Session { ssl, functions })
        }
    }

    fn reply(&mut self, session: &mut Session, _stream: &OwnedFd) -> io::Result<Option<&[u8]>> {
        // SAFETY: OpenSSL is not at work, and nobody else refers to the vector.
        unsafe { (*self.ciphertext).clear() };
        let (count, ended) = self.read(session.ssl)?;
        let mut written = 0;
        while written < count {
            let left = &self.plaintext[written..count];
            // SAFETY: the session lives, and reads as many bytes.
            let result = unsafe {
                (self.functions.SSL_write)(session.ssl, left.as_ptr().cast(), left.len() as c_int)
            };
            if result <= 0 {
                return Err(io::Error::other("the TLS session has failed"));
            }
            written += result as usize;
        }
        if ended {
            return Ok(None);
        }
        // SAFETY: as above; it stays as it is until the next reply.
        Ok(Some(unsafe { &*self.ciphertext }))
    }
}
