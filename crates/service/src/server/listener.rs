//! The socket, in a directory that only the user of the service can enter. External crate: `rustix`.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::sockopt::socket_peercred;
use rustix::net::{Shutdown, shutdown};
use rustix::process::geteuid;

/// Bits of a mode that let the group or others do anything.
const OTHERS: u32 = 0o077;

/// The reason why the service cannot start.
pub type Refusal = String;

pub struct Listener {
    path: PathBuf,
    listener: UnixListener,
    /// Locked as long as the service runs, so that no other service takes the socket.
    _lock: File,
}

impl Listener {
    /// Listens at a path. Creates its directory if it is missing, and replaces a socket that an ended service has left.
    pub fn bind(path: &Path) -> Result<Self, Refusal> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        prepare(parent)?;
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(refusal(path, "it is no socket")),
            Ok(found) if found.uid() != geteuid().as_raw() => return Err(refusal(path, "another user created it")),
            Ok(_) => fs::remove_file(path).map_err(|error| refusal(path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refusal(path, error)),
        }
        let listener = UnixListener::bind(path).map_err(|error| refusal(path, error))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| refusal(path, error))?;
        Ok(Self { path: path.into(), listener, _lock: lock })
    }

    /// Waits for a connection of this user or of root. Others are closed.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept()?;
        let peer = socket_peercred(&stream)?.uid;
        Ok((peer == geteuid() || peer.is_root()).then_some(stream))
    }

    /// Accepts no more connections, and removes the socket. An isolated process can remove no file: the socket stays, and the next
    /// service replaces it.
    pub fn close(&self) {
        fs::remove_file(&self.path).ok();
        shutdown(&self.listener, Shutdown::Both).ok();
    }
}

/// Creates a directory, or rejects one that others can enter.
fn prepare(directory: &Path) -> Result<(), Refusal> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refusal(directory, error)),
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(directory).map_err(|error| refusal(directory, error))?;
    match defect(&found) {
        Some(defect) => Err(refusal(directory, defect)),
        None => Ok(()),
    }
}

fn defect(directory: &Metadata) -> Option<&'static str> {
    if !directory.is_dir() {
        return Some("it is no directory");
    }
    if directory.uid() != geteuid().as_raw() {
        return Some("another user owns the directory");
    }
    (directory.mode() & OTHERS != 0).then_some("other users can enter the directory. Its mode must be 0700")
}

/// Takes the lock of a socket.
fn lock(path: &Path) -> Result<File, Refusal> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| refusal(&path, error))?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => refusal(&path, "another service uses this socket"),
        fs::TryLockError::Error(error) => refusal(&path, error),
    })?;
    Ok(file)
}

fn refusal(path: &Path, reason: impl Display) -> Refusal {
    format!("{}: {reason}", path.display())
}
