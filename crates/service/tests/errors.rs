//! Each error of the core arrives in a session as the service found it, with its message.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use clip::{Error, Tower};
use service::frame::{self, MAX_BODY, OfService};
use service::protocol::FromService;

/// The number of variants: the result of `place` for the last one, plus one.
const VARIANTS: usize = 31;

/// Returns the place of a variant. A new variant does not compile here, and must be added to `all`, too.
fn place(error: &Error) -> usize {
    match error {
        Error::EmptyImage => 0,
        Error::UnknownFormat => 1,
        Error::UnsupportedFormat { .. } => 2,
        Error::FormatNotAllowed { .. } => 3,
        Error::UndecodableImage { .. } => 4,
        Error::ImageBytesExceeded { .. } => 5,
        Error::ImagePixelsExceeded { .. } => 6,
        Error::TooManyTokens { .. } => 7,
        Error::TextBytesExceeded { .. } => 8,
        Error::InvalidModelName { .. } => 9,
        Error::ModelMissing { .. } => 10,
        Error::ModelFile { .. } => 11,
        Error::ModelInvalid { .. } => 12,
        Error::ModelChanged { .. } => 13,
        Error::ModelUnsafe { .. } => 14,
        Error::NotPrepared { .. } => 15,
        Error::ModelExists { .. } => 16,
        Error::Store { .. } => 17,
        Error::RuntimeMissing { .. } => 18,
        Error::RuntimeLoaded { .. } => 19,
        Error::Provider { .. } => 20,
        Error::Inference { .. } => 21,
        Error::NotAnEmbedding { .. } => 22,
        Error::NoHead { .. } => 23,
        Error::TemplateWithoutPlace { .. } => 24,
        Error::Dimensions { .. } => 25,
        Error::NoDirection => 26,
        Error::OutOfMemory { .. } => 27,
        Error::Interrupted => 28,
        Error::LoadInterrupted { .. } => 29,
        Error::Item { .. } => 30,
    }
}

fn all() -> Vec<Error> {
    // Quotes, a backslash, a line break, and characters outside of ASCII.
    let text = || "a \"quoted\" C:\\path\n\u{e4}\u{1f697}".to_owned();
    let (model, file, reason, path) = (text, text, text, text);
    let mut all = vec![
        Error::EmptyImage,
        Error::UnknownFormat,
        Error::UnsupportedFormat { format: "HEIC" },
        Error::FormatNotAllowed { format: "gif" },
        Error::UndecodableImage { format: "png", reason: reason() },
        Error::ImageBytesExceeded { bytes: u64::MAX, limit: 0 },
        Error::ImagePixelsExceeded { width: u32::MAX, height: 1, limit: u64::MAX },
        Error::TooManyTokens { tokens: usize::MAX, limit: 77 },
        Error::TextBytesExceeded { bytes: u64::MAX, limit: 1 << 20 },
        Error::InvalidModelName { name: text() },
        Error::ModelMissing { name: text(), present: vec![] },
        Error::ModelMissing { name: text(), present: vec![text(), String::new()] },
        Error::ModelFile { model: model(), file: file(), reason: reason() },
        Error::ModelInvalid { model: model(), file: file(), reason: reason() },
        Error::ModelChanged { model: model(), file: file() },
        Error::ModelUnsafe { model: model(), file: file(), reason: "others can write it" },
        Error::NotPrepared { model: model(), reason: reason() },
        Error::ModelExists { name: text() },
        Error::Store { path: path(), reason: reason() },
        Error::RuntimeMissing { path: path(), reason: reason() },
        Error::RuntimeLoaded { loaded: path(), wanted: String::new() },
        Error::Provider { provider: clip::Provider::OpenVino, reason: reason() },
        Error::Inference { model: model(), tower: Tower::Text, reason: reason() },
        Error::NotAnEmbedding { model: model(), tower: Tower::Image },
        Error::NoHead { model: model(), lacking: "logit scale" },
        Error::TemplateWithoutPlace { index: usize::MAX },
        Error::Dimensions { one: 512, other: 768 },
        Error::NoDirection,
        Error::OutOfMemory { bytes: None },
        Error::OutOfMemory { bytes: Some(u64::MAX) },
        Error::Interrupted,
        Error::LoadInterrupted { model: model() },
    ];
    let items: Vec<Error> =
        all.iter().map(|error| Error::Item { index: usize::MAX, source: Box::new(error.clone()) }).collect();
    all.extend(items);
    all
}

#[test]
fn each_error_arrives_as_it_was_sent() {
    let places: BTreeSet<usize> = all().iter().map(place).collect();
    assert_eq!(places, (0..VARIANTS).collect());
    for error in all() {
        let message = FromService::Failed { number: 7, error: error.clone() };
        let mut decoder = OfService::new(MAX_BODY);
        decoder.feed(&frame::bare(&message).unwrap());
        let FromService::Failed { number: 7, error: found } = decoder.next().unwrap().unwrap().message else {
            panic!("{error:?}");
        };
        assert_eq!(found, error);
        assert_eq!(found.to_string(), error.to_string());
    }
}
