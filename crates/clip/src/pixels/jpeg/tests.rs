//! JPEG files of every kind, against Pillow's pixels: by digests, so that no level may differ.

use sha2::{Digest, Sha256};

use super::error::TRUNCATED;
use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}/jpeg/{name}.jpg")).unwrap()
}

/// Decodes to RGB.
fn rgb(bytes: &[u8]) -> Result<((u32, u32), Vec<u8>)> {
    let jpeg = Jpeg::open(bytes)?;
    let (size, channels) = ((jpeg.width(), jpeg.height()), jpeg.channels(Colors::Rgb));
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * channels];
    jpeg.decode(Colors::Rgb, &mut pixels)?;
    let repeat = if channels == 1 { 3 } else { 1 };
    Ok((size, pixels.into_iter().flat_map(|level| std::iter::repeat_n(level, repeat)).collect()))
}

/// Compares the files whose names begin with a prefix with Pillow's pixels.
fn compare(prefixes: &[&str]) {
    let pillow = std::fs::read(format!("{FIXTURES}/jpeg/pixels.json")).unwrap();
    let pillow: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&pillow).unwrap();
    for prefix in prefixes {
        let mut count = 0;
        for (file, expected) in pillow.iter().filter(|(file, _)| file.starts_with(prefix)) {
            let (size, pixels) = rgb(&fixture(file.trim_end_matches(".jpg"))).expect(file);
            let digest: String = Sha256::digest(&pixels).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(serde_json::json!([size.0, size.1]), expected["size"], "{file}");
            assert_eq!(digest, expected["sha256"], "{file} differs from Pillow's");
            count += 1;
        }
        assert!(count > 0, "no file begins with {prefix}");
    }
}

#[test]
fn sequential_pictures_of_all_samplings_are_those_of_pillow() {
    compare(&["444", "grey", "optimized", "sampled_", "restart."]);
}

#[test]
fn sequential_pictures_in_several_scans_are_those_of_pillow() {
    compare(&["scans_"]);
}

#[test]
fn progressive_pictures_are_those_of_pillow_even_where_bits_are_open() {
    compare(&["progressive"]);
}

#[test]
fn jfif_counts_before_adobe_and_adobe_before_names() {
    compare(&["jfif_adobe_rgb", "adobe_rgb", "named_rgb", "no_jfif"]);
}

#[test]
fn colour_finer_than_brightness_is_that_of_pillow() {
    compare(&["finer_"]);
}

#[test]
fn a_missing_end_does_not_matter_where_something_follows() {
    compare(&["no_end_zeros", "followed"]);
    let whole = fixture("444");
    assert_eq!(rgb(&whole[..whole.len() - 2]), Err(TRUNCATED));
}

#[test]
fn a_frame_of_motion_jpeg_has_the_standard_tables() {
    compare(&["no_tables"]);
}

#[test]
fn arithmetic_and_lossless_pictures_are_those_of_pillow() {
    compare(&["arithmetic", "lossless_"]);
}

#[test]
fn inks_are_those_of_pillow() {
    compare(&["cmyk", "ycck"]);
}

#[test]
fn damaged_pictures_are_those_of_pillow() {
    compare(&["restart_", "bytes_between", "filled", "ended_early", "damaged"]);
}

#[test]
fn what_is_cut_short_is_refused() {
    for name in ["444", "sampled_2x2", "progressive", "arithmetic", "lossless_1", "scans_each_2x2"] {
        let whole = fixture(name);
        for length in 2..whole.len() - 2 {
            let result = rgb(&whole[..length]);
            // A few bytes may be missing where all pixels are there.
            assert!(result.is_err() || length + 8 > whole.len(), "{name}: {length} of {}", whole.len());
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let mut deep = fixture("444");
    let frame = deep.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    deep[frame + 4] = 12;
    assert_eq!(rgb(&deep), Err("only samples of 8 bits are supported"));
    let mut hierarchical = fixture("444");
    hierarchical[frame + 1] = 0xc5;
    assert_eq!(rgb(&hierarchical), Err("hierarchical JPEG is not supported"));
    assert_eq!(rgb(b"\xff\xd8\xff"), Err(TRUNCATED));
    assert_eq!(rgb(b"\xff\xd8\xff\xd9"), Err(TRUNCATED));
}

/// Returns a progressive gray frame of this side, and so many scans of no coefficient.
fn scans(side: u16, count: usize) -> Vec<u8> {
    let [high, low] = side.to_be_bytes();
    let head = [
        &b"\xff\xd8\xff\xdb\0\x43\0"[..],
        &[1; 64],
        &[0xff, 0xc2, 0, 11, 8, high, low, high, low, 1, 1, 0x11, 0],
        b"\xff\xc4\0\x14\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xda\0\x08\x01\x01\0\0\0\0\0",
    ]
    .concat();
    [head, b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0\0".repeat(count), b"\xff\xd9".to_vec()].concat()
}

#[test]
fn scans_without_end_are_refused() {
    assert!(rgb(&scans(64, 998)).is_ok());
    const TOO_MANY: &str = "it has too many scans for its size";
    assert_eq!(rgb(&scans(64, 1000)), Err(TOO_MANY));
    assert_eq!(rgb(&scans(7900, 60)), Err(TOO_MANY));
}

#[test]
fn streams_share_tables() {
    let whole = fixture("444");
    let (size, pixels) = rgb(&whole).unwrap();
    let frame = whole.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let tables: Vec<u8> = [&whole[..frame], b"\xff\xd9"].concat();
    // Its own codes come after the frame.
    let stream: Vec<u8> = [&b"\xff\xd8"[..], &whole[frame..]].concat();
    let jpeg = Jpeg::open_with_tables(&tables, &stream).unwrap();
    assert_eq!((jpeg.width(), jpeg.height()), size);
    let mut converted = vec![0; pixels.len()];
    jpeg.decode(Colors::FromYcc, &mut converted).unwrap();
    assert_eq!(converted, pixels);
    let mut stored = vec![0; pixels.len()];
    Jpeg::open_with_tables(&tables, &stream).unwrap().decode(Colors::Stored, &mut stored).unwrap();
    assert_ne!(stored, pixels);
    assert_eq!(rgb(&stream), Err("a quantization table is missing"));
}
