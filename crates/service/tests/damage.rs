//! Peers that send random bytes, or read no answers: the service panics nowhere, and its memory stays bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use service::frame;
use service::protocol::{Class, FromService, Kind, PROTOCOL, ToService, VERSION};
use support::{Client, Running, limits, wait_until};

/// Panics of threads of the service. This process has them all, because the service runs in it.
static PANICS: AtomicU32 = AtomicU32::new(0);

/// Counts the panics of the threads that the service starts. A thread of the tests has the name of a test.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let names = ["requests", "answers", "embeddings", "connections"];
            if std::thread::current().name().is_some_and(|name| names.contains(&name)) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            print(panic);
        }));
    });
}

/// Repeatable random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn embed(digest: &str, number: u64, kind: Kind, input: &[u8]) -> Vec<u8> {
    let message = ToService::Embed {
        number,
        class: Class::Search,
        model: "emoji".into(),
        digest: digest.into(),
        kind,
        sizes: vec![input.len() as u32],
        overflow: clip::Overflow::Truncate,
        limits: limits(),
    };
    [frame::opening(&message, input.len()).unwrap(), input.to_vec()].concat()
}

/// Returns frames of which some bytes were changed, removed or added.
fn damaged(random: &mut Random, digest: &str) -> Vec<u8> {
    let image = random.bytes(40);
    let frames = [
        embed(digest, 1, Kind::Texts, b"a red car"),
        embed(digest, 2, Kind::Images, &image),
        frame::bare(&ToService::Cancel { number: 1 }).unwrap(),
        frame::bare(&ToService::Statistics).unwrap(),
        frame::bare(&ToService::Hello { protocol: PROTOCOL, version: VERSION.into() }).unwrap(),
    ];
    let mut bytes: Vec<u8> = (0..3).flat_map(|_| frames[random.below(frames.len())].clone()).collect();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        match random.below(4) {
            // A printable byte often gives other JSON that is valid.
            0 => bytes[place] = b' ' + random.below(95) as u8,
            1 => bytes[place] ^= 1 << random.below(8),
            2 => drop(bytes.remove(place)),
            _ => bytes.insert(place, random.next() as u8),
        }
    }
    bytes
}

#[test]
fn random_bytes_panic_nowhere() {
    const ROUNDS: u32 = 1500;
    count_panics();
    let running = Running::start();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let bytes = match round % 3 {
            0 => {
                let count = random.below(200);
                random.bytes(count)
            }
            _ => damaged(&mut random, &running.digest),
        };
        let mut client = match round % 5 {
            0 => Client::silent(&running.directory.socket(), &running.digest),
            _ => running.connect(),
        };
        // The service may have closed the connection already.
        client.stream.write_all(&bytes).ok();
        client.stream.shutdown(std::net::Shutdown::Write).ok();
        while client.next().is_some() {}
        if round % 100 == 0 {
            running.connect().embed_texts(Class::Search, &["a red car"]);
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    let mut client = running.connect();
    wait_until(|| client.statistics().connections == 1);
    assert_eq!(client.statistics().queued, 0);
}

/// The service reads no more requests of a peer that takes no answers, and answers all that it has read.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    // Their answers have 60 MB, many times more than a socket holds.
    const MOST: u64 = 100_000;
    count_panics();
    let running = Running::start();
    running.connect().embed_texts(Class::Search, &["a red car"]);
    let mut client = running.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    let mut rest = Vec::new();
    while sent < MOST {
        let request = embed(&running.digest, sent, Kind::Texts, b"a red car");
        let mut written = 0;
        while written < request.len() {
            match client.stream.write(&request[written..]) {
                Ok(count) => written += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        sent += 1;
        if written < request.len() {
            rest = request[written..].to_vec();
            break;
        }
    }
    assert!(sent < MOST, "the service has read {sent} requests");
    // The peer reads again, and the rest of its last request arrives.
    let mut writer = client.stream.try_clone().unwrap();
    writer.set_write_timeout(None).unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&rest).unwrap());
    for number in 0..sent {
        let message = client.next().unwrap().message;
        assert_eq!(message, FromService::Embedded { number, dimensions: 128, count: 1 });
    }
    writing.join().unwrap();
    let mut byte = [0];
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(client.stream.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
