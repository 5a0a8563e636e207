//! Images: encoded bytes become the tensor that the image tower reads, as the reference makes it.
//!
//! Order: header and limits, decode the first frame, EXIF orientation, RGB, resize, crop, rescale, normalize. The
//! reference is the Pillow-backed image processor of Hugging Face's transformers.

mod bmp;
mod budget;
mod crop;
mod decode;
mod decoder;
mod exif;
mod format;
mod gif;
mod header;
mod jpeg;
mod metadata;
mod orientation;
mod png;
mod resample;
mod rgb;
mod sniff;
#[cfg(test)]
mod tests;
mod tiff;
mod unsupported;
#[cfg(test)]
mod variants;
mod webp;

pub use format::{Format, Limits};
pub use header::ImageInfo;

use crate::error::Error;
use crate::memory::{MemoryCheck, headroom, reserve};
use crate::panics::catch_panic;
use crate::recipe::{ImageSpec, Levels};
use crate::threads::Interrupted;
use crop::crop;
use format::undecodable;
use sniff::sniff;

/// Reads the header of an image. Its pixels are not decoded.
pub fn image_info(bytes: &[u8], limits: &Limits) -> Result<ImageInfo, Error> {
    catch_panic(|| header::info(bytes, limits))
        .unwrap_or_else(|| Err(undecodable(sniff(bytes)?, "the decoder does not understand the header")))
}

/// Returns the tensor of one image, `[3, height, width]`, which the image tower of such a model reads.
pub fn image_tensor(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> Result<Vec<f32>, Error> {
    let mut samples = reserve(spec.samples())?;
    samples.resize(spec.samples(), 0.0);
    tensor(bytes, spec, &spec.levels(), limits, MemoryCheck::PerStep, &mut samples)?;
    Ok(samples)
}

/// Returns the most memory that [`image_tensor`] takes, estimated from the header.
pub fn image_memory(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> u64 {
    decode::bytes_to_decode(bytes, limits, spec)
}

/// Writes the tensor of one image, `[3, height, width]`, to `tensor`, which has that size.
pub(crate) fn tensor(
    bytes: &[u8],
    spec: &ImageSpec,
    levels: &Levels,
    limits: &Limits,
    memory: MemoryCheck,
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

/// Returns true if memory suffices for so many threads to decode any of these images at the same time.
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
