//! The files of Unix sockets.
//!
//! Binding a Unix socket to a path makes a file, and closing the socket leaves it there: nobody can
//! connect to it any more, and nobody else can bind to its path. So a server removes what another
//! has left behind, and its own file in the end.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Removes the file at `path` if it is a socket's; nothing happens where there is none.
///
/// Whether a server listens on it cannot be seen. A name that is in use is taken over, as asyncio
/// does it.
///
/// # Errors
/// What the file system says of the path.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match existing(path)? {
        Some(file) if file.file_type().is_socket() => remove(path),
        _ => Ok(()),
    }
}

/// The file of a socket that listens.
#[derive(Debug, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    /// The file system and the file in it. While its socket is open, no other file can have both.
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// What the file system says of the path.
    pub fn at(path: &Path) -> io::Result<Option<SocketFile>> {
        let file = existing(path)?.map(|file| SocketFile {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        });
        Ok(file)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless there is another at its path by now, or none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> io::Result<()> {
        if SocketFile::at(&self.path)?.as_ref() == Some(self) {
            remove(&self.path)?;
        }
        Ok(())
    }
}

fn existing(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Somebody else may have removed it meanwhile.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A path of the test's own, which is removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("aioxide-{name}-{}", std::process::id());
            Scratch(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn only_sockets_are_stale() -> io::Result<()> {
        let Scratch(path) = &Scratch::new("stale");
        remove_stale(path)?;
        drop(UnixListener::bind(path)?);
        remove_stale(path)?;
        assert!(!path.exists());
        fs::write(path, "precious")?;
        remove_stale(path)?;
        assert!(path.exists());
        assert!(
            remove_stale(&path.join("below")).is_err(),
            "not a directory"
        );
        Ok(())
    }

    #[test]
    fn a_file_is_removed_by_its_owner_alone() -> io::Result<()> {
        let Scratch(path) = &Scratch::new("owner");
        assert_eq!(SocketFile::at(path)?, None);
        let first = UnixListener::bind(path)?;
        let file = SocketFile::at(path)?;
        let remove = || file.as_ref().map_or(Ok(()), SocketFile::remove);
        fs::remove_file(path)?;
        remove()?;
        let second = UnixListener::bind(path)?;
        remove()?;
        assert!(path.exists(), "it is another's");
        drop((first, second));
        let file = SocketFile::at(path)?;
        file.as_ref().map_or(Ok(()), SocketFile::remove)?;
        assert!(!path.exists());
        Ok(())
    }
}
