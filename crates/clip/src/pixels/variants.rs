//! Tests of tiny images of every kind that decoders disagree about, against Pillow's pixels.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::error::Error;
use crate::memory::MemoryCheck;
use crate::pixels::format::undecodable;
use crate::pixels::{Format, Limits, decode, image_info};

#[test]
fn variants_are_read_as_pillow_reads_them() {
    let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    let limits = Limits { bytes: 1 << 20, pixels: 1 << 16, formats: Format::ALL.to_vec() };
    let golden = std::fs::read(fixtures.join("golden/variants.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let mut wrong = Vec::new();
    for variant in golden.as_array().unwrap() {
        let file = variant["file"].as_str().unwrap();
        let bytes = std::fs::read(fixtures.join("variants").join(file)).unwrap();
        let theirs = BASE64_STANDARD.decode(variant["pixels"].as_str().unwrap()).unwrap();
        let size = [0, 1].map(|side| variant["size"][side].as_u64().unwrap() as u32);
        let (ours, info) =
            match (decode::decode(&bytes, &limits, true, MemoryCheck::PerStep), image_info(&bytes, &limits)) {
                (Ok(ours), Ok(info)) => (ours, info),
                (Err(error), _) | (_, Err(error)) => {
                    wrong.push(format!("{file}: {error}"));
                    continue;
                }
            };
        let is_turned = info.orientation >= 5;
        if [ours.width, ours.height] != size || ours.bytes != theirs {
            wrong.push(format!("{file}: other pixels"));
        } else if u64::from(info.frames) != variant["frames"].as_u64().unwrap()
            || is_turned != variant["turned"].as_bool().unwrap()
            || (is_turned && [info.height, info.width] != size)
            || (!is_turned && [info.width, info.height] != size)
        {
            wrong.push(format!("{file}: {info:?}"));
        }
    }
    assert!(golden.as_array().unwrap().len() > 120);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_canvas_that_grows_counts_against_the_limit() {
    let gif = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/variants/larger_than_screen.gif");
    let gif = std::fs::read(gif).unwrap();
    let info = |pixels| image_info(&gif, &Limits { bytes: 1 << 20, pixels, formats: Format::ALL.to_vec() });
    assert_eq!(info(12 * 9).map(|info| (info.width, info.height)), Ok((12, 9)));
    assert_eq!(info(12 * 9 - 1), Err(Error::ImagePixelsExceeded { width: 12, height: 9, limit: 12 * 9 - 1 }));
}

#[test]
fn a_reason_is_one_line_without_a_full_stop() {
    for reason in ["it is\nbroken", "it is \r\n\tbroken.\n", "it\u{0} is  broken..", "\nit is broken ."] {
        let error = Error::UndecodableImage { format: "png", reason: "it is broken".into() };
        assert_eq!(undecodable(Format::Png, reason), error);
    }
}
