//! The order of the work, its bounds, and work that is not done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clip::Tower;
use clip::admin::Weights;
use service::protocol::{Class, FromService, ToService};
use support::{Running, cosine, long_texts, options, wait_until};

fn strings(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn many_connections_share_batches() {
    const CLIENTS: usize = 32;
    const TEXTS: usize = 60;
    let running = Running::start();
    let text = |client: usize, number: usize| format!("{} {client} of {number}", "red ".repeat(number % 3));
    let found: Vec<Vec<Vec<f32>>> = thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|client| {
            let mut connection = running.connect();
            scope.spawn(move || {
                let one = |number| connection.embed_texts(Class::Search, &[&text(client, number)]).remove(0);
                (0..TEXTS).map(one).collect()
            })
        });
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut model = running.directory.open("emoji");
    for (client, found) in found.iter().enumerate() {
        let texts: Vec<String> = (0..TEXTS).map(|number| text(client, number)).collect();
        let direct = model.embed_texts(&strings(&texts), &options()).unwrap();
        for (found, direct) in found.iter().zip(direct) {
            assert!(cosine(found, direct.embedding.as_slice()) >= 0.999_99);
        }
    }
    let statistics = running.connect().statistics();
    let all = (CLIENTS * TEXTS) as u64;
    assert_eq!((statistics.requests, statistics.items, statistics.queued), (all, all, 0));
    assert!(statistics.batches < all / 2, "{} batches", statistics.batches);
    assert!(statistics.models[0].sessions <= 2);
}

#[test]
fn searches_run_before_bulk_work_and_a_full_queue_is_reported() {
    let running = Running::with(|settings| {
        settings.threads = 1;
        settings.max_inputs = 64;
    });
    let mut client = running.connect();
    client.embed_texts(Class::Search, &["warm"]);
    let bulk = client.texts(Class::Bulk, &strings(&long_texts(48)));
    let rejected = client.texts(Class::Bulk, &["one more"]);
    let search = client.texts(Class::Search, &["a red car"]);
    let FromService::Busy { number, reason } = client.next().unwrap().message else { panic!("not rejected") };
    assert_eq!((number, reason.contains("inputs wait")), (rejected, true));
    // The search was sent last and is answered first.
    client.embedded(search, 1);
    assert!(client.statistics().queued > 0);
    client.embedded(bulk, 48);
    let again = client.texts(Class::Bulk, &["one more"]);
    client.embedded(again, 1);
}

#[test]
fn bulk_work_goes_on_while_searches_arrive() {
    let running = Running::with(|settings| settings.threads = 1);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..8 {
            let (running, is_done) = (&running, &is_done);
            scope.spawn(move || {
                let mut connection = running.connect();
                for number in 0.. {
                    if is_done.load(Ordering::Relaxed) {
                        return assert!(number > 0);
                    }
                    connection.embed_texts(Class::Search, &[&format!("search {client} {number}")]);
                }
            });
        }
        let texts: Vec<String> = (0..200).map(|number| format!("row {number}")).collect();
        wait_until(|| running.connect().statistics().items > 20);
        running.connect().embed_texts(Class::Bulk, &strings(&texts));
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn canceled_work_is_not_done() {
    let running = Running::with(|settings| settings.threads = 1);
    let mut client = running.connect();
    let long = long_texts(40);
    let first = client.texts(Class::Bulk, &strings(&long[..20]));
    let canceled = client.texts(Class::Bulk, &strings(&long[20..]));
    client.send(&ToService::Cancel { number: canceled }, &[]);
    client.send(&ToService::Cancel { number: 999 }, &[]);
    let mut closed = running.connect();
    closed.texts(Class::Bulk, &strings(&long[20..]));
    drop(closed);
    client.embedded(first, 20);
    let last = client.texts(Class::Bulk, &["the next answer"]);
    client.embedded(last, 1);
    wait_until(|| client.statistics().queued == 0);
    let statistics = client.statistics();
    assert_eq!((statistics.items, statistics.connections), (21, 1));
    // A number can be used again.
    assert_eq!(client.embed_texts(Class::Search, &["a red car"]).len(), 1);
}

#[test]
fn encoders_are_unloaded_within_the_memory() {
    let images = support::images();
    let running = Running::with(|settings| settings.memory = 30 << 20);
    let mut client = running.connect();
    for (round, tower) in ["text", "image", "text", "image"].into_iter().enumerate() {
        match tower {
            "text" => drop(client.embed_texts(Class::Bulk, &[&format!("round {round}")])),
            _ => drop(client.embed_images(Class::Bulk, &[&images[0]])),
        }
        let loaded = client.statistics().models;
        assert_eq!(loaded.iter().map(|model| model.tower.as_str()).collect::<Vec<_>>(), [tower]);
        assert!(loaded[0].bytes <= 30 << 20);
    }
    // Two threads that need different encoders at the same time take turns.
    thread::scope(|scope| {
        let mut other = running.connect();
        scope.spawn(move || (0..20).for_each(|_| drop(other.embed_images(Class::Search, &[&images[1]]))));
        (0..20).for_each(|number| drop(client.embed_texts(Class::Search, &[&format!("text {number}")])));
    });

    let running = Running::with(|settings| settings.memory = 10 << 20);
    let mut client = running.connect();
    client.texts(Class::Search, &["a red car"]);
    let FromService::Declined { reason, .. } = client.next().unwrap().message else { panic!("not declined") };
    assert!(reason.contains("bytes of memory"), "{reason}");
}

#[test]
fn requests_in_progress_are_finished_at_the_end() {
    let mut running = Running::start();
    let mut client = running.connect();
    client.embed_texts(Class::Search, &["warm"]);
    let texts: Vec<String> = (0..32).map(|number| format!("text {number}")).collect();
    let number = client.texts(Class::Bulk, &strings(&texts));
    wait_until(|| running.connect().statistics().requests == 2);
    running.end().unwrap();
    assert!(!running.directory.socket().exists());
    client.embedded(number, 32);
    // The service reads nothing more.
    assert!(client.next().is_none());
    assert_eq!(client.stream.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn eight_bit_models_run_one_input_at_a_time() {
    let running = Running::start();
    let models = running.directory.models();
    let manifest =
        clip::admin::quantize(&models, "emoji", "fast", (Weights::Int8, &Tower::BOTH), &options(), &mut |_, _, _| {});
    let digest = manifest.unwrap().digest;
    let texts: Vec<String> = (0..40).map(|number| format!("{number} cars")).collect();
    let images = support::images();
    let mut model = running.directory.open("fast");
    thread::scope(|scope| {
        for part in texts.chunks(10) {
            let mut client = running.connect();
            client.model = "fast".into();
            client.digest.clone_from(&digest);
            let direct = model.embed_texts(&strings(part), &options()).unwrap();
            scope.spawn(move || {
                let embedded = client.embed_texts(Class::Bulk, &strings(part));
                assert!(embedded.iter().zip(direct).all(|(one, direct)| one == direct.embedding.as_slice()));
            });
        }
        let mut client = running.connect();
        client.model = "fast".into();
        client.digest.clone_from(&digest);
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let direct = model.embed_images(&images, &options()).unwrap();
        let embedded = client.embed_images(Class::Bulk, &images);
        assert!(embedded.iter().zip(direct).all(|(one, direct)| one == direct.as_slice()));
    });
    let statistics = running.connect().statistics();
    assert_eq!((statistics.batches, statistics.items), (52, 52));
}
