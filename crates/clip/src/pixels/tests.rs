//! Tests of the pixels and tensors of all formats against those of the reference.

use super::crop::crop;
use super::*;
use crate::memory::MemoryCheck;
use crate::recipe::Resize;

#[test]
fn formats_are_told_by_their_first_bytes() {
    let limits = Limits { bytes: 100, pixels: 100, formats: Format::ALL.to_vec() };
    let error = |bytes: &[u8]| image_info(bytes, &limits).unwrap_err();
    assert_eq!(error(b""), Error::EmptyImage);
    assert_eq!(error(b"hello"), Error::UnknownFormat);
    assert_eq!(error(b"\0\0\0\x20ftypavif"), Error::UnsupportedFormat { format: "AVIF" });
    assert_eq!(error(&[0; 101]), Error::ImageBytesExceeded { bytes: 101, limit: 100 });
}

#[test]
fn a_chunk_that_says_it_is_larger_than_the_file_takes_no_memory() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/images/lossy.webp");
    let simple = std::fs::read(fixture).unwrap();
    let info = image_info(&simple, &limits()).unwrap();
    // The extended format, which may have EXIF; the image itself; a chunk that claims 3.9 GB and has one byte.
    let size = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let extended = [&b"VP8X\x0a\0\0\0\x08\0\0\0"[..], &size(info.width), &size(info.height)].concat();
    let chunks = [&b"WEBP"[..], &extended, &simple[12..], b"EXIF\xf0\xff\xff\xee\0"].concat();
    let bomb = [&b"RIFF"[..], &(chunks.len() as u32).to_le_bytes(), &chunks].concat();
    assert_eq!(image_info(&bomb, &limits()).unwrap(), info);
}

/// At most this many levels between our pixels and Pillow's.
fn tolerance(file: &str) -> u8 {
    // Lossy WebP leaves the last bits to the decoder; the other steps are exact.
    match file {
        _ if file.ends_with(".jpg") => 0,
        _ if file.contains("lossy.webp") || file.ends_with("hopper.webp") => 4,
        _ => 1,
    }
}

fn spec(folder: &std::path::Path) -> ImageSpec {
    let folder = crate::folder::Folder { path: folder, model: "test" };
    crate::import::config::Configuration::read(folder).unwrap().image
}

fn limits() -> Limits {
    Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() }
}

fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(&a, &b)| a.abs_diff(b)).max().unwrap()
}

#[test]
fn pixels_are_those_of_pillow() {
    use base64::Engine;
    let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    let families = std::fs::read_dir(fixtures.join("families")).unwrap().map(|family| {
        let name = family.unwrap().file_name().into_string().unwrap();
        (fixtures.join("families").join(&name), format!("families/{name}"))
    });
    let models = ["wide", "narrow", "bidirectional"];
    let models = models.map(|name| (fixtures.join("models").join(name), name.to_owned()));
    for (folder, model) in models.into_iter().chain(families) {
        let spec = spec(&folder);
        let golden = std::fs::read(fixtures.join("golden").join(format!("{model}.json"))).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let images = golden["images"].as_array().unwrap();
        assert!(images.len() >= 12);
        for image in images {
            let file = image["file"].as_str().unwrap();
            // Colors under transparency are kept: docs/exactness.md says why.
            let pixels = image["alpha_dropped"]["pixels"].as_str().or(image["pixels"].as_str()).unwrap();
            let theirs = base64::prelude::BASE64_STANDARD.decode(pixels).unwrap();
            let bytes = std::fs::read(fixtures.join("images").join(file)).unwrap();
            let ours = crop(decode::decode(&bytes, &limits(), true, MemoryCheck::PerStep).unwrap(), &spec).unwrap();
            let difference = largest_difference(&ours.bytes, &theirs);
            println!("{model} {file}: {difference}");
            assert!(difference <= tolerance(file), "{model} {file}: off by {difference}");
        }
    }
}

/// Photographs and tensors of the original CLIP, which are not part of the project.
#[test]
fn tensors_are_those_of_the_reference() {
    let data = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if !data.exists() {
        println!("left out: the reference data is not here");
        return;
    }
    let reference = std::fs::read(data.join("reference/preprocess_golden.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
    let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/wide"));
    // OpenAI's mean and std, but 224 pixels; the reference was made without turning images upright.
    let resize = Some(Resize::ShortestEdge(224));
    let spec = ImageSpec { resize, width: 224, height: 224, exif_orientation: false, ..spec(fixtures) };
    let images = reference["images"].as_object().unwrap();
    assert_eq!(images.len(), 7);
    for (name, image) in images {
        let file = std::fs::File::open(data.join("reference/preprocess_golden").join(format!("{name}.npz"))).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut array = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name("hf.npy").unwrap(), &mut array).unwrap();
        // A short header, then little-endian f32 in the order [3, 224, 224].
        let theirs = array[array.len() - 4 * 3 * 224 * 224..].chunks_exact(4);
        let bytes = std::fs::read(data.join(image["file"].as_str().unwrap())).unwrap();
        let ours = image_tensor(&bytes, &spec, &limits()).unwrap();
        // One level is 1 / 255 / std.
        let stds: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
        let levels = ours.iter().zip(theirs).enumerate().map(|(index, (ours, theirs))| {
            let theirs = f32::from_le_bytes(theirs.try_into().unwrap());
            (ours - theirs).abs() * 255.0 * stds[index / (224 * 224)]
        });
        let difference = levels.fold(0.0, f32::max);
        println!("{name}: {difference:.3}");
        assert!(difference <= f32::from(tolerance(name)) + 0.01, "{name}: off by {difference} levels");
    }
}
