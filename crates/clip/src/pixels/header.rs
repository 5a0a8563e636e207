//! What a picture's header says, before a pixel is decoded.
//!
//! External crates: `image`, and the decoders beneath it for counting frames (`gif`, `png`, `image-webp`).

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader};

use crate::error::Error;
use crate::memory::Memory;
use crate::pixels::container::{HEADER_BYTES, are_webp_chunks_inside, bytes_to_open};
use crate::pixels::jpeg::Jpeg;
use crate::pixels::tiff::{Page, Tiff};

/// A format that can be decoded, by pure-Rust decoders only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    pub const ALL: [Self; 6] = [Self::Jpeg, Self::Png, Self::WebP, Self::Gif, Self::Bmp, Self::Tiff];

    /// The name in lower case, as settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    fn decoder(self) -> ImageFormat {
        match self {
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Png => ImageFormat::Png,
            Self::WebP => ImageFormat::WebP,
            Self::Gif => ImageFormat::Gif,
            Self::Bmp => ImageFormat::Bmp,
            Self::Tiff => ImageFormat::Tiff,
        }
    }
}

/// What may be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Encoded size in bytes.
    pub bytes: u64,
    /// Width times height.
    pub pixels: u64,
    pub formats: Vec<Format>,
}

/// What the header of a picture says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    pub format: Format,
    /// Stored width in pixels, before the orientation is applied.
    pub width: u32,
    /// Stored height in pixels, before the orientation is applied.
    pub height: u32,
    /// EXIF orientation, 1 to 8; 1 where the file has none.
    pub orientation: u8,
    /// Frames of an animation, pages of a TIFF; 1 for a still picture.
    pub frames: u32,
}

/// First bytes of formats that are pictures, but have no decoder here: offset, bytes, name.
const UNSUPPORTED: [(usize, &[u8], &str); 19] = [
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftyphevc", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG"),
    (0, b"qoif", "QOI"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"DDS ", "DDS"),
];

/// Tell the format from the first bytes.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, Error> {
    let starts = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Ok(match bytes {
        [] => return Err(Error::EmptyImage),
        _ if starts(0, b"\xff\xd8\xff") => Format::Jpeg,
        _ if starts(0, b"\x89PNG\r\n\x1a\n") => Format::Png,
        _ if starts(0, b"RIFF") && starts(8, b"WEBP") => Format::WebP,
        _ if starts(0, b"GIF8") => Format::Gif,
        _ if starts(0, b"BM") => Format::Bmp,
        _ if Tiff::is_one(bytes) => Format::Tiff,
        _ => {
            let known = UNSUPPORTED.iter().find(|(offset, magic, _)| starts(*offset, magic));
            return Err(known.map_or(Error::UnknownFormat, |&(_, _, format)| Error::UnsupportedFormat { format }));
        }
    })
}

/// Check size and format, read the header and check its dimensions.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    memory: Memory,
) -> Result<(Format, Box<dyn ImageDecoder + 'a>), Error> {
    let size = bytes.len() as u64;
    if size > limits.bytes {
        return Err(Error::ImageBytesExceeded { bytes: size, limit: limits.bytes });
    }
    let format = sniff(bytes)?;
    if !limits.formats.contains(&format) {
        return Err(Error::FormatNotAllowed { format: format.name() });
    }
    memory.headroom(bytes_to_open(bytes, format))?;
    let decoder = decoder(bytes, format)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(Error::ImagePixelsExceeded { width, height, limit: limits.pixels });
    }
    if width == 0 || height == 0 {
        return Err(undecodable(format, "it has no pixels"));
    }
    Ok((format, decoder))
}

/// The decoder, by what its header says.
fn decoder(bytes: &[u8], format: Format) -> Result<Box<dyn ImageDecoder + '_>, Error> {
    Ok(match format {
        Format::Jpeg => Box::new(Jpeg::open(bytes).map_err(|reason| undecodable(format, reason))?),
        Format::Tiff => Box::new(Page::read(Tiff(bytes)).map_err(|reason| undecodable(format, reason))?),
        _ => {
            let mut reader = ImageReader::with_format(Cursor::new(bytes), format.decoder());
            let mut header_limits = image::Limits::no_limits();
            header_limits.max_alloc = Some(HEADER_BYTES);
            reader.limits(header_limits);
            Box::new(reader.into_decoder().map_err(|error| undecodable(format, error))?)
        }
    })
}

/// Why a file is refused of which the end is missing, as where an upload broke off.
pub(super) const CUT_SHORT: &str = "it is cut short";

pub(super) fn undecodable(format: Format, reason: impl std::fmt::Display) -> Error {
    // Some reasons end with a full stop, some do not: DETAIL puts its own.
    Error::UndecodableImage { format: format.name(), reason: reason.to_string().trim_end_matches('.').into() }
}

pub(super) fn info(bytes: &[u8], limits: &Limits) -> Result<ImageInfo, Error> {
    let (format, mut decoder) = open(bytes, limits, Memory::Unasked)?;
    let (width, height) = decoder.dimensions();
    let orientation = orientation(&mut decoder, bytes, format).to_exif();
    // Counting opens it again.
    drop(decoder);
    Ok(ImageInfo { format, width, height, orientation, frames: frames(bytes, format) })
}

/// The EXIF orientation. EXIF that cannot be read is no reason to refuse a picture that can.
pub(super) fn orientation(decoder: &mut impl ImageDecoder, bytes: &[u8], format: Format) -> Orientation {
    // The decoder sets aside what a chunk says it has, up to 4 GB, before it looks for it.
    if format == Format::WebP && !are_webp_chunks_inside(bytes) {
        return Orientation::NoTransforms;
    }
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Frames as far as they can be read: a file that is cut short has those before the cut, at least one.
fn frames(bytes: &[u8], format: Format) -> u32 {
    let counted = match format {
        Format::Jpeg | Format::Bmp => 1,
        Format::Png => png_frames(bytes),
        Format::WebP => image_webp::WebPDecoder::new(Cursor::new(bytes)).map_or(1, |decoder| decoder.num_frames()),
        Format::Gif => gif_frames(bytes),
        Format::Tiff => Tiff(bytes).pages(),
    };
    counted.max(1)
}

fn png_frames(bytes: &[u8]) -> u32 {
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: HEADER_BYTES as usize });
    let Ok(reader) = decoder.read_info() else { return 1 };
    reader.info().animation_control().map_or(1, |control| control.num_frames)
}

fn gif_frames(bytes: &[u8]) -> u32 {
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let Ok(mut decoder) = options.read_info(Cursor::new(bytes)) else { return 1 };
    let mut frames = 0;
    while let Ok(Some(_)) = decoder.next_frame_info() {
        frames += 1;
    }
    frames
}
