//! Pictures: encoded bytes become the tensor that the image tower reads, as the reference makes it.
//!
//! Order: header and limits, decode the first frame, EXIF orientation, RGB, resize, crop, rescale, normalise. The
//! reference is the Pillow-backed image processor of Hugging Face's transformers.

mod bmp;
mod bmp_runs;
mod container;
mod decode;
mod decoder;
mod exif;
mod gif;
mod header;
mod jpeg;
mod orientation;
mod png;
mod resample;
mod tiff;
mod unsupported;
#[cfg(test)]
mod variants;

pub use header::{Format, ImageInfo, Limits};
pub use resample::Filter;

use crate::error::Error;
use crate::memory::{Memory, headroom, reserve};
use crate::panics::catch_panic;
use crate::recipe::{ImageSpec, Levels, Resize};
use crate::threads::Interrupted;
use resample::Window;

/// Rows of three bytes a pixel, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rgb {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl Rgb {
    fn with_capacity(width: u32, height: u32) -> Result<Self, Error> {
        Ok(Self { width, height, bytes: reserve(width as usize * height as usize * 3)? })
    }
}

/// Read what the header of a picture says. Its pixels are not decoded.
pub fn image_info(bytes: &[u8], limits: &Limits) -> Result<ImageInfo, Error> {
    catch_panic(|| header::info(bytes, limits)).unwrap_or_else(|| {
        Err(header::undecodable(header::sniff(bytes)?, "the decoder does not understand the header"))
    })
}

/// The tensor of one picture, `[3, height, width]`: what the image tower of such a model reads.
pub fn image_tensor(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> Result<Vec<f32>, Error> {
    let mut samples = reserve(spec.samples())?;
    samples.resize(spec.samples(), 0.0);
    tensor(bytes, spec, &spec.levels(), limits, Memory::Unasked, &mut samples)?;
    Ok(samples)
}

/// Write the tensor of one picture, `[3, height, width]`, to `tensor`, which has that size.
pub(crate) fn tensor(
    bytes: &[u8],
    spec: &ImageSpec,
    levels: &Levels,
    limits: &Limits,
    memory: Memory,
    tensor: &mut [f32],
) -> Result<(), Error> {
    let crop = crop(decode::decode(bytes, limits, spec.exif_orientation, memory)?, spec)?;
    let planes = tensor.chunks_exact_mut(spec.samples() / 3);
    for (channel, (levels, plane)) in levels.0.iter().zip(planes).enumerate() {
        for (sample, pixel) in plane.iter_mut().zip(crop.bytes.chunks_exact(3)) {
            *sample = levels[usize::from(pixel[channel])];
        }
    }
    Ok(())
}

/// Whether so many threads can decode these pictures at once, whichever meet.
pub(crate) fn fit_at_once(
    images: &[&[u8]],
    spec: &ImageSpec,
    limits: &Limits,
    threads: usize,
    interrupted: Interrupted,
) -> Result<bool, Error> {
    let mut needs = reserve(images.len())?;
    for image in images {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        needs.push(decode::bytes_to_decode(image, limits, spec));
    }
    needs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(headroom(needs.iter().take(threads).fold(0, |sum: u64, &need| sum.saturating_add(need))).is_ok())
}

/// Resize and cut to the model's size. Where the resized picture is smaller than the crop, the rest is black.
fn crop(image: Rgb, spec: &ImageSpec) -> Result<Rgb, Error> {
    let (width, height) = resized(image.width, image.height, spec.resize);
    let (crop_width, crop_height) = (spec.width, spec.height);
    let (left, padding_left, copied_width) = overlap(width, crop_width);
    let (top, padding_top, copied_height) = overlap(height, crop_height);
    let window = Window { left, top, width: copied_width, height: copied_height };
    let inside = resample::resize(image, width, height, window, spec.resample)?;
    if (copied_width, copied_height) == (crop_width, crop_height) {
        return Ok(inside);
    }
    let mut padded = Rgb::with_capacity(crop_width, crop_height)?;
    padded.bytes.resize(crop_width as usize * crop_height as usize * 3, 0);
    let rows = padded.bytes.chunks_exact_mut(crop_width as usize * 3).skip(padding_top as usize);
    for (row, source) in rows.zip(inside.bytes.chunks_exact(copied_width as usize * 3)) {
        row[padding_left as usize * 3..][..source.len()].copy_from_slice(source);
    }
    Ok(padded)
}

/// The size after the resize, before the crop.
fn resized(width: u32, height: u32, resize: Option<Resize>) -> (u64, u64) {
    let (short, long) = (width.min(height), width.max(height));
    match resize {
        None => (width.into(), height.into()),
        Some(Resize::Exact { width, height }) => (width.into(), height.into()),
        Some(Resize::ShortestEdge(edge)) => {
            // int(edge * long / short): the reference truncates.
            let longer = (u64::from(edge) * u64::from(long)) as f64 / f64::from(short);
            if width <= height { (edge.into(), longer as u64) } else { (longer as u64, edge.into()) }
        }
    }
}

/// Where a centred crop of `crop` begins in a side of `side`, what is padded before it, and what is copied.
fn overlap(side: u64, crop: u32) -> (u64, u32, u32) {
    match side.checked_sub(crop.into()) {
        Some(rest) => (rest / 2, 0, crop),
        // The reference pads ceil(rest / 2) in front, then crops from floor(-rest / 2) of that: they cancel out.
        None => {
            let side = side as u32;
            (0, (crop - side).div_ceil(2), side)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_edge_is_truncated() {
        assert_eq!(resized(451, 300, Some(Resize::ShortestEdge(224))), (336, 224));
        assert_eq!(resized(300, 451, Some(Resize::ShortestEdge(224))), (224, 336));
        assert_eq!(resized(5, 400, Some(Resize::ShortestEdge(96))), (96, 7680));
    }

    #[test]
    fn the_crop_is_centred_and_floored() {
        assert_eq!(overlap(335, 224), (55, 0, 224));
        assert_eq!(overlap(224, 224), (0, 0, 224));
    }

    #[test]
    fn a_side_shorter_than_the_crop_is_padded() {
        assert_eq!(overlap(61, 64), (0, 2, 61));
        assert_eq!(overlap(62, 64), (0, 1, 62));
    }

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
        // The extended format, which may have EXIF; the picture itself; a chunk of 3.9 GB, of which a byte is there.
        let size = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
        let extended = [&b"VP8X\x0a\0\0\0\x08\0\0\0"[..], &size(info.width), &size(info.height)].concat();
        let chunks = [&b"WEBP"[..], &extended, &simple[12..], b"EXIF\xf0\xff\xff\xee\0"].concat();
        let bomb = [&b"RIFF"[..], &(chunks.len() as u32).to_le_bytes(), &chunks].concat();
        assert_eq!(image_info(&bomb, &limits()).unwrap(), info);
    }

    /// At most this many levels between our pixels and Pillow's.
    fn tolerance(file: &str) -> u8 {
        // Lossy WebP leaves the last bits to the decoder; what follows is exact.
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
                // Colours under transparency are kept: docs/exactness.md says why.
                let pixels = image["alpha_dropped"]["pixels"].as_str().or(image["pixels"].as_str()).unwrap();
                let theirs = base64::prelude::BASE64_STANDARD.decode(pixels).unwrap();
                let bytes = std::fs::read(fixtures.join("images").join(file)).unwrap();
                let ours = crop(decode::decode(&bytes, &limits(), true, Memory::Unasked).unwrap(), &spec).unwrap();
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
        // OpenAI's mean and std, but 224 pixels; the reference was made without turning pictures upright.
        let resize = Some(Resize::ShortestEdge(224));
        let spec = ImageSpec { resize, width: 224, height: 224, exif_orientation: false, ..spec(fixtures) };
        let images = reference["images"].as_object().unwrap();
        assert_eq!(images.len(), 7);
        for (name, image) in images {
            let file =
                std::fs::File::open(data.join("reference/preprocess_golden").join(format!("{name}.npz"))).unwrap();
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
}
