//! Damaged, oversized and untimely messages close their connection, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;

use service::frame;
use service::protocol::{Class, FromService, PROTOCOL, ToService, VERSION};
use support::{Running, limits};

fn hello(protocol: u32) -> Vec<u8> {
    frame::bare(&ToService::Hello { protocol, version: VERSION.into() }).unwrap()
}

#[test]
fn bad_frames_close_the_connection() {
    let running = Running::start();
    let embed = |sizes: Vec<u32>, body: &[u8]| {
        let message = ToService::Embed {
            number: 1,
            class: Class::Search,
            model: "emoji".into(),
            digest: running.digest.clone(),
            kind: service::protocol::Kind::Texts,
            sizes,
            overflow: clip::Overflow::Error,
            limits: limits(),
        };
        [frame::opening(&message, body.len()).unwrap(), body.to_vec()].concat()
    };
    let ping_with_body = [frame::opening(&ToService::Ping, 1).unwrap(), vec![0]].concat();
    let bad = [
        // Headers: too large, no JSON, an unknown message.
        vec![255; 8],
        b"\x02\0\0\0\0\0\0\0{]".to_vec(),
        b"\x07\0\0\0\0\0\0\0\"hello\"".to_vec(),
        // A body larger than any frame, sizes that do not match, bytes that are no text, a body that nobody wants.
        b"\x06\0\0\0\xff\xff\xff\xff\"ping\"".to_vec(),
        embed(vec![1, 2], b"ab"),
        embed(vec![u32::MAX, u32::MAX], b"ab"),
        embed(vec![1], b"\xff"),
        ping_with_body,
        // A second greeting.
        hello(PROTOCOL),
    ];
    for bytes in bad {
        let mut client = running.connect();
        client.stream.write_all(&bytes).unwrap();
        assert!(client.next().is_none(), "{bytes:?}");
    }
    // A frame that is not complete.
    let mut client = running.connect();
    client.stream.write_all(&embed(vec![100], b"ab")[..20]).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.next().is_none());
    running.connect().embed_texts(Class::Search, &["a red car"]);
}

#[test]
fn another_version_is_rejected_with_a_greeting() {
    let running = Running::start();
    for first in [hello(PROTOCOL + 1), hello(0), frame::bare(&ToService::Ping).unwrap()] {
        let mut client = support::Client::silent(&running.directory.socket(), &running.digest);
        client.stream.write_all(&first).unwrap();
        let greeting = FromService::Hello { protocol: PROTOCOL, version: VERSION.into() };
        assert_eq!(client.next().unwrap().message, greeting);
        assert!(client.next().is_none());
    }
}

#[test]
fn pings_are_answered_while_work_runs() {
    let running = Running::with(|settings| settings.threads = 1);
    let mut client = running.connect();
    let texts = support::long_texts(30);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let number = client.texts(Class::Bulk, &texts);
    client.send(&ToService::Ping, &[]);
    assert_eq!(client.next().unwrap().message, FromService::Pong);
    client.embedded(number, 30);
}

#[test]
fn too_many_requests_of_one_connection_close_it() {
    let running = Running::with(|settings| settings.threads = 1);
    let mut client = running.connect();
    let texts = support::long_texts(10);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for _ in 0..65 {
        client.texts(Class::Bulk, &texts[..1]);
    }
    while client.next().is_some() {}
    running.connect().embed_texts(Class::Search, &["a red car"]);
}
