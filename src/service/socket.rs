//! A socket to the service that never blocks. Waits are on the latch of this process.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::broken::Broken;
use super::wait::{self, Wanted};

/// Interval of the attempts to connect while many other processes connect.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Bytes of one read.
const PORTION: usize = 64 * 1024;

pub struct Socket {
    stream: UnixStream,
    _descriptor: Descriptor,
}

/// One of the file descriptors that the server counts.
struct Descriptor;

impl Descriptor {
    fn reserve() -> io::Result<Self> {
        // SAFETY: counts a descriptor. If the limit is reached, the error number is set.
        match unsafe { pg_sys::AcquireExternalFD() } {
            true => Ok(Self),
            false => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the descriptor was counted.
        unsafe { pg_sys::ReleaseExternalFD() };
    }
}

impl Socket {
    /// Connects to a process of the same user.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, Broken> {
        let absent = |error: io::Error| Broken::Absent(format!("Connection to its socket failed: {error}"));
        let descriptor = Descriptor::reserve().map_err(absent)?;
        let begun = Instant::now();
        let stream = loop {
            match try_to_connect(path) {
                Ok(stream) => break stream,
                // Others are being accepted.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < limit => {
                    wait::for_time(TRY_EVERY)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Broken::Silent),
                Err(error) => return Err(absent(error)),
            }
        };
        let owner = owner_of_peer(&stream).map_err(absent)?;
        // SAFETY: reads a number of this process.
        if owner != unsafe { libc::geteuid() } {
            return Err(Broken::Refused("Another user of the system created its socket".into()));
        }
        Ok(Self { stream, _descriptor: descriptor })
    }

    /// Returns true if the other side has closed the connection.
    pub fn is_closed(&self) -> bool {
        let mut byte = 0u8;
        // SAFETY: reads at most one byte into a variable.
        let got = unsafe {
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            libc::recv(self.stream.as_raw_fd(), (&raw mut byte).cast(), 1, flags)
        };
        got == 0 || got < 0 && io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
    }

    /// Sends bytes. Fails if the other side reads nothing for the time, or will not read them.
    pub fn send(&mut self, mut bytes: &[u8], limit: Duration) -> Result<(), Broken> {
        while !bytes.is_empty() {
            // SAFETY: sends bytes of a slice. A closed connection is an error and no signal.
            let sent =
                unsafe { libc::send(self.stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => (),
                    error if error.kind() == io::ErrorKind::WouldBlock => self.wait(Wanted::Writable, limit)?,
                    error => return Err(Broken::Ended(error.to_string())),
                },
            }
        }
        Ok(())
    }

    /// Receives some bytes. Fails if none arrive in the time.
    pub fn receive(&mut self, limit: Duration, feed: impl FnOnce(&[u8])) -> Result<(), Broken> {
        let mut buffer = [0; PORTION];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Broken::Ended("it closed the connection".into())),
                Ok(count) => {
                    feed(&buffer[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(Wanted::Readable, limit)?,
                Err(error) => return Err(Broken::Ended(error.to_string())),
            }
        }
    }

    fn wait(&self, wanted: Wanted, limit: Duration) -> Result<(), Broken> {
        if wanted == Wanted::Readable && wait::briefly(self.stream.as_raw_fd()) {
            return Ok(());
        }
        let begun = Instant::now();
        while !wait::for_socket(self.stream.as_raw_fd(), wanted, limit.saturating_sub(begun.elapsed()))? {
            if begun.elapsed() >= limit {
                return Err(Broken::Silent);
            }
        }
        Ok(())
    }
}

/// Connects without waiting.
fn try_to_connect(path: &Path) -> io::Result<UnixStream> {
    // SAFETY: all bytes zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    // The last byte stays zero.
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is longer than 107 bytes"));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    // SAFETY: system calls with valid arguments. The new descriptor belongs to the stream.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let descriptor = libc::socket(libc::AF_UNIX, kind, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = OwnedFd::from_raw_fd(descriptor);
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        match libc::connect(descriptor.as_raw_fd(), (&raw const address).cast(), length) {
            0 => Ok(descriptor.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Returns the user who runs the process at the other end.
fn owner_of_peer(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most the given length.
    let done = unsafe {
        let option = (&raw mut peer).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, option, &raw mut length)
    };
    if done == 0 { Ok(peer.uid) } else { Err(io::Error::last_os_error()) }
}
