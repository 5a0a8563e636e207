//! The socket and its directory belong to the user of the service alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use service::protocol::Class;
use service::server::serve;
use support::{Directory, Running};

/// Returns the reason why a service cannot start.
fn refusal(directory: &Directory, socket: &Path) -> String {
    let mut settings = directory.settings();
    settings.socket = socket.into();
    serve(settings, |_| ()).unwrap_err()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_a_private_directory_is_used() {
    let directory = Directory::new();
    let socket = directory.socket();
    let parent = socket.parent().unwrap();
    fs::create_dir(parent).unwrap();
    for open in [0o755, 0o710, 0o701, 0o777] {
        fs::set_permissions(parent, Permissions::from_mode(open)).unwrap();
        assert!(refusal(&directory, &socket).contains("other users can enter"));
    }
    fs::remove_dir(parent).unwrap();
    fs::create_dir(directory.0.join("other")).unwrap();
    symlink(directory.0.join("other"), parent).unwrap();
    assert!(refusal(&directory, &socket).contains("it is no directory"));
    fs::remove_file(parent).unwrap();
    fs::write(parent, "").unwrap();
    assert!(refusal(&directory, &socket).contains("it is no directory"));
    // Only root can give a directory away. Others find one of root.
    let (foreign, expected) = (directory.0.join("foreign"), "another user owns the directory");
    fs::create_dir(&foreign).unwrap();
    fs::set_permissions(&foreign, Permissions::from_mode(0o700)).unwrap();
    match chown(&foreign, Some(65534), None) {
        Ok(()) => assert!(refusal(&directory, &foreign.join("service")).contains(expected)),
        Err(_) => assert!(refusal(&directory, Path::new("/usr/service")).contains(expected)),
    }
}

#[test]
fn only_a_socket_of_its_own_is_replaced() {
    let directory = Directory::new();
    let socket = directory.socket();
    let parent = socket.parent().unwrap();
    fs::create_dir(parent).unwrap();
    fs::set_permissions(parent, Permissions::from_mode(0o700)).unwrap();
    fs::write(&socket, "").unwrap();
    assert!(refusal(&directory, &socket).contains("it is no socket"));
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    if chown(&socket, Some(65534), None).is_ok() {
        assert!(refusal(&directory, &socket).contains("another user created it"));
        fs::remove_file(&socket).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
    }
    let settings = directory.settings();
    serve(settings, |isolation| {
        assert_eq!(isolation, "none");
        assert_eq!((mode(parent), mode(&socket)), (0o700, 0o600));
        let digest = directory.open("emoji").manifest().digest.clone();
        support::Client::new(&socket, &digest).embed_texts(Class::Search, &["a red car"]);
    })
    .unwrap();
    assert!(!socket.exists());
}

#[test]
fn two_services_do_not_share_a_socket() {
    let mut running = Running::start();
    let refusal = refusal(&running.directory, &running.directory.socket());
    assert!(refusal.contains("another service uses this socket"), "{refusal}");
    running.connect().embed_texts(Class::Search, &["a red car"]);
    running.end().unwrap();
}
