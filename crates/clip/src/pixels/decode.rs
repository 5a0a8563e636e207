//! Bytes to RGB, by Pillow's rules: the first frame is decoded, alpha is dropped, and samples of 16 bits are reduced to
//! their high byte.
//! One rule is not Pillow's: 16-bit gray becomes its high byte too. Pillow clips it at 255 and returns a white image.
//! External crate: `image`.

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, RgbImage};

use crate::error::Error;
use crate::memory::{MemoryCheck, reserve};
use crate::panics::catch_panic;
use crate::pixels::budget::{budget, bytes_to_open, pixels};
use crate::pixels::format::{Format, Limits, TRUNCATED, undecodable};
use crate::pixels::header;
use crate::pixels::orientation::orientation;
use crate::pixels::rgb::Rgb;
use crate::pixels::sniff::sniff;
use crate::pixels::tiff::Tiff;
use crate::pixels::webp;
use crate::recipe::ImageSpec;

/// Returns the peak memory of making a tensor of `bytes`.
pub(super) fn bytes_to_decode(bytes: &[u8], limits: &Limits, spec: &ImageSpec) -> u64 {
    /// Bytes of the weights for each row and column.
    const WEIGHTS: u64 = 128;
    let Ok(format) = sniff(bytes) else { return 0 };
    let decoding = catch_panic(|| {
        let (format, decoder) = header::open(bytes, limits, MemoryCheck::PerStep).ok()?;
        let (width, height) = decoder.dimensions();
        let long = u64::from(width.max(height));
        let resizing = (WEIGHTS + 3 * u64::from(spec.width.max(spec.height))) * long;
        // Two copies: reduced to RGB, and rotated.
        Some(budget(&decoder, bytes, format).saturating_add(2 * 3 * pixels(&decoder)).saturating_add(resizing))
    });
    bytes_to_open(bytes, format).saturating_add(decoding.flatten().unwrap_or(0))
}

/// Decodes the first frame of `bytes`, and applies its orientation if `orient` is true.
pub(super) fn decode(bytes: &[u8], limits: &Limits, orient: bool, memory: MemoryCheck) -> Result<Rgb, Error> {
    // Decoders panic on some malicious files. A panic leaves no state half-changed that a caller can see.
    catch_panic(|| decode_or_panic(bytes, limits, orient, memory)).unwrap_or_else(|| {
        let format = sniff(bytes)?;
        Err(undecodable(format, "the decoder does not understand the file"))
    })
}

fn decode_or_panic(bytes: &[u8], limits: &Limits, orient: bool, memory: MemoryCheck) -> Result<Rgb, Error> {
    let (format, mut decoder) = header::open(bytes, limits, memory)?;
    let orientation = match orient {
        true => orientation(bytes, format),
        false => Orientation::NoTransforms,
    };
    let size = decoder.total_bytes();
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    if let Some(reason) = defect(bytes, format, (width.into(), height.into()), limits.pixels) {
        return Err(undecodable(format, reason));
    }
    let budget = budget(&decoder, bytes, format);
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(budget);
    decoder.set_limits(decoder_limits).map_err(|error| undecodable(format, error))?;
    memory.headroom(budget)?;

    let mut samples = reserve(usize::try_from(size).unwrap_or(usize::MAX))?;
    samples.resize(size as usize, 0);
    decoder.read_image_boxed(&mut samples).map_err(|error| undecodable(format, error))?;
    let bytes = to_rgb(samples, color, format)?;
    upright(Rgb { width, height, bytes }, orientation, memory)
}

/// Returns why an image is rejected although its header is in order: its content would cost far more than the header
/// says.
fn defect(bytes: &[u8], format: Format, size: (u64, u64), max_pixels: u64) -> Option<&'static str> {
    match format {
        Format::WebP if !webp::is_whole(bytes) => Some(TRUNCATED),
        Format::WebP => (!webp::is_within(bytes, size)).then_some("a frame is larger than the picture"),
        Format::Tiff => Tiff(bytes).defect(size, max_pixels),
        Format::Jpeg | Format::Png | Format::Gif | Format::Bmp => None,
    }
}

/// Reduces the decoder's samples to three bytes per pixel.
fn to_rgb(samples: Vec<u8>, color: ColorType, format: Format) -> Result<Vec<u8>, Error> {
    let pick: fn(&[u8]) -> [u8; 3] = match color {
        ColorType::Rgb8 => return Ok(samples),
        ColorType::L8 | ColorType::La8 => |pixel| [pixel[0]; 3],
        ColorType::Rgba8 => |pixel| [pixel[0], pixel[1], pixel[2]],
        // Samples of 16 bits are in the machine's byte order.
        ColorType::L16 | ColorType::La16 => |pixel| [high_byte(pixel, 0); 3],
        ColorType::Rgb16 | ColorType::Rgba16 => |pixel| [0, 1, 2].map(|channel| high_byte(pixel, channel)),
        other => return Err(undecodable(format, format_args!("samples of type {other:?} are not supported"))),
    };
    let pixel = usize::from(color.bytes_per_pixel());
    let mut bytes = reserve(samples.len() / pixel * 3)?;
    bytes.extend(samples.chunks_exact(pixel).flat_map(pick));
    Ok(bytes)
}

fn high_byte(pixel: &[u8], channel: usize) -> u8 {
    let [low, high] = [pixel[channel * 2], pixel[channel * 2 + 1]];
    (u16::from_ne_bytes([low, high]) >> 8) as u8
}

fn upright(image: Rgb, orientation: Orientation, memory: MemoryCheck) -> Result<Rgb, Error> {
    if orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    // Rotating makes a copy of the image.
    memory.headroom(image.bytes.len() as u64)?;
    let (width, height) = (image.width, image.height);
    match RgbImage::from_raw(width, height, image.bytes) {
        Some(pixels) => {
            let mut turned = DynamicImage::ImageRgb8(pixels);
            turned.apply_orientation(orientation);
            Ok(Rgb { width: turned.width(), height: turned.height(), bytes: turned.into_bytes() })
        }
        // The buffer was allocated for these dimensions.
        None => unreachable!("an RGB buffer of other dimensions than its picture. This is a bug."),
    }
}
