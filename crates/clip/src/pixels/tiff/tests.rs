use std::path::{Path, PathBuf};

use base64::Engine;
use image::ImageDecoder;

use super::{Page, Tiff};
use crate::error::Error;
use crate::memory::MemoryCheck;
use crate::pixels::rgb::Rgb;
use crate::pixels::{Format, Limits, decode, image_info};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("tiff").join(name)).unwrap()
}

fn limits() -> Limits {
    Limits { bytes: 1 << 20, pixels: 1 << 20, formats: Format::ALL.to_vec() }
}

fn decode(bytes: &[u8]) -> Result<Rgb, Error> {
    decode::decode(bytes, &limits(), true, MemoryCheck::PerStep)
}

/// Decodes without the net that catches panics.
fn decode_bare(bytes: &[u8]) {
    if let Ok(page) = Page::read(Tiff(bytes))
        && u64::from(page.width) * u64::from(page.height) <= limits().pixels
        && Tiff(bytes).defect((page.width.into(), page.height.into()), limits().pixels).is_none()
    {
        let mut rgb = vec![0; page.width as usize * page.height as usize * 3];
        drop(page.read_image(&mut rgb));
    }
}

#[test]
fn pixels_are_those_of_pillow() {
    let golden = std::fs::read(fixtures().join("golden/tiff.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let files = golden.as_array().unwrap();
    assert!(files.len() > 50);
    for file in files {
        let name = file["file"].as_str().unwrap();
        let theirs = base64::prelude::BASE64_STANDARD.decode(file["pixels"].as_str().unwrap()).unwrap();
        let ours = decode(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(
            [ours.width, ours.height],
            ["width", "height"].map(|side| file[side].as_u64().unwrap() as u32),
            "{name}"
        );
        let difference = ours.bytes.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(difference, Some(0), "{name}");
    }
}

#[test]
fn kinds_without_a_known_meaning_are_rejected() {
    for (name, expected) in [
        ("float", "its samples are floating-point numbers, and which level is white is not known"),
        ("signed", "its samples are signed, and which level is white is not known"),
        ("unsigned_32", "samples of so many bits are not supported"),
        ("cielab", "colours in CIELab are not supported"),
        ("old_jpeg", "JPEG compression of the old kind (before 1995) is not supported"),
        ("thunderscan", "ThunderScan compression is not supported"),
        ("float_predictor", "its predictor is not supported"),
        ("too_short", "a strip or tile ends too soon"),
        ("outside", "a strip or tile is outside the file"),
    ] {
        match decode(&fixture(&format!("rejected_{name}.tif"))) {
            Err(Error::UndecodableImage { format: "tiff", reason }) => assert_eq!(reason, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_black_beyond_all_levels_is_an_error() {
    let mut file = fixture("ycbcr_range.tif");
    // 16 / 1, of the luma that is black.
    let black = file.windows(8).position(|bytes| bytes == [16, 0, 0, 0, 1, 0, 0, 0]).unwrap();
    file[black..black + 4].fill(0xff);
    assert_eq!(Page::read(Tiff(&file)).err(), Some("a number in its directory cannot be read"));
}

#[test]
fn the_header_says_size_and_orientation() {
    for (name, orientation) in [("bigtiff.tif", 1), ("orientation_5.tif", 5), ("orientation_6_rational.tif", 6)] {
        let info = image_info(&fixture(name), &limits()).unwrap();
        assert_eq!((info.format, info.width, info.height, info.frames), (Format::Tiff, 21, 13, 1), "{name}");
        assert_eq!(info.orientation, orientation, "{name}");
    }
}

#[test]
fn damaged_files_are_errors_or_pictures() {
    // A generator of Lehmer's: the same damage each time.
    let mut state = 1_u64;
    let mut random = move |most: usize| {
        state = state * 48_271 % 0x7fff_ffff;
        state as usize % most
    };
    let mut files = 0;
    for file in std::fs::read_dir(fixtures().join("tiff")).unwrap() {
        let whole = std::fs::read(file.unwrap().path()).unwrap();
        for _ in 0..20 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(8) {
                let at = random(damaged.len());
                damaged[at] = random(256) as u8;
            }
            decode_bare(&damaged);
            decode_bare(&whole[..random(whole.len())]);
            files += 2;
        }
    }
    assert!(files > 2000);
}

/// Returns a classic TIFF of one directory, whose entries are numbers of 32 bits, and of data that begins at 512.
fn tiff(entries: &[(u16, u32)], data: &[u8]) -> Vec<u8> {
    let entry =
        |&(tag, value): &(u16, u32)| [&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat();
    let count = (entries.len() as u16).to_le_bytes();
    let mut bytes = [&b"II*\0\x08\0\0\0"[..], &count, &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat();
    bytes.resize(512, 0);
    [&bytes, data].concat()
}

#[test]
fn files_that_ask_for_more_than_they_have_are_rejected() {
    let grey = |side: u32, compression: u32, more: &[(u16, u32)]| {
        let grey = [(256, side), (257, side), (258, 8), (259, compression), (262, 1), (273, 512), (277, 1), (279, 64)];
        tiff(&[&grey[..], more].concat(), &[0; 64])
    };
    let reason = |bytes: &[u8]| match decode(bytes) {
        Err(Error::UndecodableImage { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&grey(1000, 5, &[(278, 0)])), "its strips or tiles are empty");
    assert_eq!(reason(&grey(8, 5, &[(322, 1 << 20), (323, 1)])), "its tiles are much larger than it is");
    assert_eq!(reason(&grey(8, 5, &[(322, 1 << 16), (323, 1 << 16)])), "its tiles are much larger than it is");
    assert_eq!(reason(&grey(1000, 1, &[(322, 1), (323, 1)])), "it has too many strips or tiles");
    assert_eq!(reason(&grey(8, 50_000, &[])), "a strip or tile cannot be decompressed");
    // Each row is the whole file.
    let strips = [(256, 8), (257, 99), (258, 8), (259, 5), (262, 1), (277, 1), (278, 1)];
    let mut overlapping = tiff(&[&strips[..], &[(273, 512), (279, 512)]].concat(), &512_u32.to_le_bytes().repeat(99));
    for entry in [8 + 2 + 7 * 12, 8 + 2 + 8 * 12] {
        overlapping[entry + 4] = 99;
    }
    assert_eq!(reason(&overlapping), "its strips or tiles lie in one another");
}
