//! Sockets: the one that listens already works, and all others are forbidden.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;

use crate::place::{Place, fails};

pub fn sockets(place: &Place) {
    let path = place.readable("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let from_before = UnixDatagram::unbound().unwrap();
    place.isolate();
    fails("TCP", TcpStream::connect("127.0.0.1:9"), libc::EPERM);
    fails("TCP", TcpListener::bind("127.0.0.1:0"), libc::EPERM);
    fails("UDP", UdpSocket::bind("127.0.0.1:0"), libc::EPERM);
    fails("a Unix socket", UnixStream::connect(&path), libc::EPERM);
    fails("a Unix socket", UnixListener::bind(place.readable("socket2")), libc::EPERM);
    let name = SocketAddr::from_abstract_name("pg_clip-test").unwrap();
    fails("an abstract socket", UnixListener::bind_addr(&name), libc::EPERM);
    fails("a pair", UnixStream::pair(), libc::EPERM);
    fails("a socket from before", from_before.connect(&path), libc::EPERM);
}

pub fn listener(place: &Place) {
    let listener = UnixListener::bind(place.readable("socket")).unwrap();
    place.isolate();
    println!("ready");
    for stream in listener.incoming().take(3) {
        let mut stream = stream.unwrap();
        // Each connection has a thread, as in a server.
        thread::spawn(move || {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
        })
        .join()
        .unwrap();
    }
}

pub fn connects(place: &Place, name: &str) {
    let mut child = place.start(name, Stdio::piped());
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    for _ in 0..3 {
        let mut stream = UnixStream::connect(place.readable("socket")).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ping");
    }
    assert!(child.wait().unwrap().success());
}
