//! The service answers as direct calls of the core do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use clip::{Error, Overflow, Tower};
use service::protocol::{Class, FromService, Kind};
use support::{Client, Running, cosine, images, options};

/// The lowest allowed cosine between an embedding of a batch and that of a direct call.
const BATCHED: f64 = 0.999_99;

const TEXTS: [&str; 7] = [
    "a red car",
    "",
    "two dogs on a beach",
    "a red car",
    "Straße",
    "one",
    "a map of the city with all its rivers and hills",
];

fn failure(client: &mut Client, kind: Kind, inputs: &[&[u8]], overflow: Overflow) -> Error {
    let wanted = client.request(Class::Search, kind, inputs, overflow);
    match client.next().unwrap().message {
        FromService::Failed { number, error } if number == wanted => error,
        other => panic!("{other:?}"),
    }
}

fn declined(client: &mut Client) -> String {
    let wanted = client.texts(Class::Search, &["a red car"]);
    match client.next().unwrap().message {
        FromService::Declined { number, reason } if number == wanted => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_have_the_embeddings_of_direct_calls() {
    let running = Running::start();
    let mut model = running.directory.open("emoji");
    for class in [Class::Bulk, Class::Search] {
        let mut client = running.connect();
        for text in TEXTS {
            let direct = model.embed_texts(&[text], &options()).unwrap().remove(0).embedding;
            assert_eq!(client.embed_texts(class, &[text]), [direct.as_slice()], "{text:?}");
        }
    }
    let many: Vec<String> = (0..300).map(|number| "blue ".repeat(number % 20) + &number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let direct = model.embed_texts(&many, &options()).unwrap();
    let embedded = running.connect().embed_texts(Class::Bulk, &many);
    for (direct, embedded) in direct.iter().zip(embedded) {
        assert!(cosine(direct.embedding.as_slice(), &embedded) >= BATCHED);
    }
}

#[test]
fn images_have_the_embeddings_of_direct_calls() {
    let running = Running::start();
    let mut model = running.directory.open("emoji");
    let mut client = running.connect();
    let images = images();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let together = client.embed_images(Class::Bulk, &images);
    for (image, together) in images.iter().zip(together) {
        let direct = model.embed_images(&[image], &options()).unwrap().remove(0);
        assert_eq!(client.embed_images(Class::Search, &[image]), [direct.as_slice()]);
        assert!(cosine(direct.as_slice(), &together) >= BATCHED);
    }
    assert!(client.embed_images(Class::Search, &[]).is_empty());
}

#[test]
fn a_bad_input_fails_its_own_request_with_its_index() {
    let running = Running::start();
    let mut client = running.connect();
    let good = images();
    let (good, bad) = (good[0].as_slice(), b"no image".as_slice());
    let item = |index, source| Error::Item { index, source: Box::new(source) };
    // Requests of two connections, whose inputs share batches.
    let mut other = running.connect();
    let number = other.request(Class::Search, Kind::Images, &[good; 8], Overflow::Truncate);
    let error = failure(&mut client, Kind::Images, &[good, good, bad, good, b""], Overflow::Truncate);
    assert_eq!(error, item(2, Error::UnknownFormat));
    assert_eq!(other.embedded(number, 8).len(), 8);
    assert_eq!(failure(&mut client, Kind::Images, &[b""], Overflow::Truncate), item(0, Error::EmptyImage));

    let long = "red ".repeat(100);
    let too_long = item(1, Error::TooManyTokens { tokens: 102, limit: 32 });
    let texts = [b"short".as_slice(), long.as_bytes(), b"other"];
    assert_eq!(failure(&mut client, Kind::Texts, &texts, Overflow::Error), too_long);
    // A cached text is rejected, too.
    assert_eq!(client.embed_texts(Class::Search, &["short", &long]).len(), 2);
    assert_eq!(failure(&mut client, Kind::Texts, &texts, Overflow::Error), too_long);
    let huge = vec![b'a'; clip::MAX_TEXT_BYTES + 1];
    let bytes = item(0, Error::TextBytesExceeded { bytes: huge.len() as u64, limit: clip::MAX_TEXT_BYTES as u64 });
    assert_eq!(failure(&mut client, Kind::Texts, &[&huge], Overflow::Truncate), bytes);
    assert_eq!(client.statistics().queued, 0);
}

#[test]
fn other_models_are_left_to_the_session() {
    let running = Running::start();
    let mut client = running.connect();
    client.digest = "0".repeat(64);
    assert!(declined(&mut client).contains("another digest"));
    client.digest.clone_from(&running.digest);
    for name in ["nothing", "../models/emoji", ""] {
        client.model = name.into();
        assert!(!declined(&mut client).is_empty());
    }
    assert!(client.statistics().models.is_empty());
    client.model = "emoji".into();
    client.embed_texts(Class::Search, &["a red car"]);
}

#[test]
fn a_damaged_model_fails_and_a_repaired_one_works() {
    let running = Running::start();
    let file = running.directory.models().join("emoji/onnx/text_model.onnx");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let mut client = running.connect();
    let error = failure(&mut client, Kind::Texts, &[b"a red car"], Overflow::Truncate);
    assert_eq!(error, Error::ModelChanged { model: "emoji".into(), file: "onnx/text_model.onnx".into() });
    std::fs::write(&file, whole).unwrap();
    client.embed_texts(Class::Search, &["a red car"]);
}

#[test]
fn all_connections_share_the_cached_texts_of_searches() {
    let running = Running::start();
    let first = running.connect().embed_texts(Class::Search, &["a red car", "a dog"]);
    let mut client = running.connect();
    assert_eq!(client.embed_texts(Class::Search, &["a dog", "a red car"]), [first[1].clone(), first[0].clone()]);
    let statistics = client.statistics();
    assert_eq!((statistics.cache_hits, statistics.items, statistics.requests), (2, 2, 2));
    // Bulk work does not displace them.
    (0..2).for_each(|_| drop(client.embed_texts(Class::Bulk, &["a cat"])));
    let statistics = client.statistics();
    assert_eq!((statistics.cache_hits, statistics.items, statistics.connections), (2, 4, 1));
    assert!(statistics.p50_ms.is_some() && statistics.p99_ms >= statistics.p50_ms);
    let [model] = statistics.models.as_slice() else { panic!("{statistics:?}") };
    assert_eq!((model.name.as_str(), model.tower.as_str()), ("emoji", Tower::Text.name()));
}
