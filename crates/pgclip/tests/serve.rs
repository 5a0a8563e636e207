//! `pgclip serve`, as a process of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::thread;

use process::{Place, root, wait_until};
use service::protocol::{Class, Kind};

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_ends_it_in_order() {
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let mut process = place.start();
        let mut client = place.connect();
        client.embed(Class::Search, Kind::Texts, b"a red car");
        let statistics = client.statistics();
        assert_eq!((statistics.process, statistics.threads, statistics.items), (process.0.id(), 2, 1));
        assert!(statistics.isolation.contains("seccomp"), "{}", statistics.isolation);
        process.signal(signal);
        assert_eq!(process.end(), Some(0));
        assert!(UnixStream::connect(place.socket()).is_err());
    }
}

#[test]
fn the_socket_of_a_killed_service_is_replaced() {
    let place = Place::new();
    for _ in 0..3 {
        let mut process = place.start();
        place.connect().embed(Class::Search, Kind::Texts, b"a red car");
        process.signal("KILL");
        assert_eq!(process.end(), None);
        assert!(place.socket().exists());
    }
    let _process = place.start();
    let second = place.command(&[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(message(&second).contains("another service uses this socket"), "{second:?}");
}

#[test]
fn a_service_that_cannot_start_reports_the_reason() {
    let place = Place::new();
    fs::create_dir(place.0.join("run")).unwrap();
    fs::set_permissions(place.0.join("run"), Permissions::from_mode(0o755)).unwrap();
    let failed = place.command(&[]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("other users can enter the directory"), "{failed:?}");
    fs::remove_dir(place.0.join("run")).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_pgclip"));
    command.current_dir(&place.0).args(["serve", "--socket", "run/service", "--model-path", "models"]);
    let failed = command.args(["--onnxruntime", "libonnxruntime.so"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("could not load ONNX Runtime"), "{failed:?}");
    assert!(!place.0.join("run").exists());

    let several = ["list", "--model-path", "models", "--model-path", "nowhere"];
    let failed = Command::new(env!("CARGO_BIN_EXE_pgclip")).args(several).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("more than one model directory"), "{failed:?}");
}

/// Texts that are new and texts that are cached, images, and connections that come and go. PG_CLIP_REQUESTS=1000000 asks for longer.
#[test]
fn memory_does_not_grow_over_many_requests() {
    const CLIENTS: usize = 4;
    const FIRST: usize = 10_000;
    let more: usize = env::var("PG_CLIP_REQUESTS").map_or(100_000, |requests| requests.parse().unwrap());
    let place = Place::new();
    let process = place.start();
    let image = fs::read(root().join("tests/fixtures/images/grey.png")).unwrap();
    let work = |requests: usize| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (place, image) = (&place, &image);
                scope.spawn(move || {
                    let mut connection = place.connect();
                    for number in 0..requests / CLIENTS {
                        match number % 50 {
                            0 => connection = place.connect(),
                            1 => drop(connection.embed(Class::Bulk, Kind::Images, image)),
                            2..10 => {
                                let text = format!("row {client} {number}");
                                connection.embed(Class::Bulk, Kind::Texts, text.as_bytes());
                            }
                            rest => drop(connection.embed(Class::Search, Kind::Texts, rest.to_string().as_bytes())),
                        }
                    }
                });
            }
        });
    };
    work(FIRST);
    let before = process.kilobytes("VmRSS");
    work(more);
    let after = process.kilobytes("VmRSS");
    println!("{before} kB, after {more} more requests {after} kB");
    assert!(after < before + 8 * 1024, "{before} kB, then {after} kB");
    let mut client = place.connect();
    wait_until(|| client.statistics().connections == 1);
    let statistics = client.statistics();
    assert_eq!((statistics.queued, statistics.requests), (0, (FIRST + more - (FIRST + more) / 50) as u64));
    // The main thread, threads that compute, accept and handle signals, and the two of this connection.
    assert!(process.kilobytes("Threads") < 12);
}
