//! `pgclip serve` while something goes wrong: its parent is killed, or images are malicious.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/e2e/tests/security/hostile/files.rs"]
#[allow(dead_code, reason = "the tests of servers use the rest")]
mod files;
mod process;
#[path = "../../../tests/e2e/tests/security/hostile/tiff.rs"]
#[allow(dead_code, reason = "the tests of servers use the rest")]
mod tiff;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use clip::Error;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use process::{Place, root, wait_until};
use service::protocol::{Class, Kind};
use tiff::*;

/// The longest time for one image, as in a session.
const LONGEST: Duration = Duration::from_secs(15);

/// An image of the fixtures.
fn picture(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/fixtures/images").join(name)).unwrap()
}

/// Returns the cosine of two unit vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Returns true if all threads of a process have ended. Its first thread can be a zombie while others still have the socket.
fn has_ended(process: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { return true };
    status.contains("State:\tZ") && status.contains("Threads:\t1\n")
}

/// The server requests the signal before it starts the command. The isolated process keeps it.
#[test]
fn it_ends_with_a_killed_parent() {
    let place = Place::new();
    let service = place.command(&["--threads", "1"]);
    // The parent is a shell, which waits for the service.
    let mut parent = Command::new("sh");
    parent.args(["-c", "setpriv --pdeathsig KILL -- \"$@\" & wait", "sh"]).arg(service.get_program());
    parent.args(service.get_args()).current_dir(&place.0).stdin(Stdio::null()).stderr(Stdio::null());
    let mut parent = parent.spawn().unwrap();
    wait_until(|| UnixStream::connect(place.socket()).is_ok());
    let mut client = place.connect();
    client.embed(Class::Search, Kind::Texts, b"a red car");
    let statistics = client.statistics();
    assert!(statistics.isolation.contains("seccomp"), "{}", statistics.isolation);
    assert_ne!(statistics.process, parent.id());
    assert!(!has_ended(statistics.process));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until(|| has_ended(statistics.process));
    // A new service takes the socket.
    let _process = place.start();
    place.connect().embed(Class::Search, Kind::Texts, b"a red car");
}

/// The image bombs of the tests of sessions, from several connections at the same time.
#[test]
fn image_bombs_do_no_harm() {
    const CLIENTS: usize = 3;
    let place = Place::new();
    let process = place.start();
    let good = picture("rgb_444.jpg");
    let expected = place.connect().embed(Class::Search, Kind::Images, &good);
    let before = process.kilobytes("VmHWM");
    let bombs = Mutex::new(files::bombs());
    let report = Mutex::new((0, 0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = place.connect();
                loop {
                    let Some((what, bytes)) = bombs.lock().unwrap().pop() else { return };
                    let begun = Instant::now();
                    let result = client.attempt(Class::Search, Kind::Images, &bytes);
                    println!("{what}: {} bytes, {:?}, {:?}", bytes.len(), begun.elapsed(), result.as_ref().err());
                    // Each waits for the images of the other connections.
                    assert!(begun.elapsed() < LONGEST * CLIENTS as u32, "{what}: {:?}", begun.elapsed());
                    let mut report = report.lock().unwrap();
                    match result {
                        Ok(_) => report.0 += 1,
                        Err(Error::Item { index: 0, source }) => {
                            check(&source, what);
                            report.1 += 1;
                        }
                        Err(other) => panic!("{what}: {other:?}"),
                    }
                    drop(report);
                    // It may share a batch with an image of another connection, which rounds otherwise.
                    let found = client.embed(Class::Search, Kind::Images, &good);
                    assert!(cosine(&found, &expected) >= 0.999_99, "after {what}: {found:?}");
                }
            });
        }
    });
    let (embedded, rejected) = report.into_inner().unwrap();
    let peak = process.kilobytes("VmHWM");
    println!("{embedded} embedded, {rejected} rejected, memory {before} kB before and {peak} kB at most");
    assert!(embedded > 5 && rejected > 20, "{embedded} embedded, {rejected} rejected");
    // The decoders of all threads share 1 GiB.
    assert!(peak < before + (1 << 20), "{before} kB, then {peak} kB");
    assert_eq!(place.connect().statistics().process, process.0.id());
}

/// The errors that a session raises for these images, by SQLSTATE: invalid image, or limits exceeded.
fn check(error: &Error, what: &str) {
    let is_expected = matches!(
        error,
        Error::UnknownFormat
            | Error::UnsupportedFormat { .. }
            | Error::UndecodableImage { .. }
            | Error::ImageBytesExceeded { .. }
            | Error::ImagePixelsExceeded { .. }
            | Error::OutOfMemory { .. }
    );
    assert!(is_expected, "{what}: {error:?}");
}
