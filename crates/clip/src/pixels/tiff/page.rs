//! The first page of a TIFF: the description of its pixels in the directory, checked before any of them is decoded.

use crate::pixels::tiff::chunks::Chunks;
use crate::pixels::tiff::color::Color;
use crate::pixels::tiff::compression::Compression;
use crate::pixels::tiff::directory::{Tiff, tag};
use crate::pixels::tiff::error::Result;
use crate::pixels::tiff::ycbcr::YCbCr;

/// A page and the storage of its pixels.
pub(in crate::pixels) struct Page<'a> {
    pub width: u32,
    pub height: u32,
    pub color: Color,
    /// Bits of a sample.
    pub bits: u32,
    /// Samples of a pixel, including unused ones.
    pub samples: u32,
    /// True if each sample has chunks of its own.
    pub is_planar: bool,
    /// True if the bits of a byte are stored in the reverse order.
    pub is_reversed: bool,
    /// True if samples are stored as differences from their left neighbors.
    pub has_differences: bool,
    pub compression: Compression,
    pub chunks: Chunks<'a>,
}

/// The supported values of PhotometricInterpretation.
mod photometric {
    pub const WHITE_IS_ZERO: u64 = 0;
    pub const BLACK_IS_ZERO: u64 = 1;
    pub const RGB: u64 = 2;
    pub const PALETTE: u64 = 3;
    pub const CMYK: u64 = 5;
    pub const YCBCR: u64 = 6;
}

impl<'a> Page<'a> {
    /// Reads the first directory.
    pub(in crate::pixels) fn read(file: Tiff<'a>) -> Result<Self> {
        let side = |tag| u32::try_from(file.first(tag, 0)?).map_err(|_| "its size is out of range");
        let (width, height) = (side(tag::WIDTH)?, side(tag::HEIGHT)?);
        if width == 0 || height == 0 {
            return Err("it has no pixels");
        }
        let compression = Compression::of(file)?;
        let (samples, bits) = samples(file)?;
        let is_planar = samples > 1 && file.first(tag::PLANES, 1)? == 2;
        let color = color(file, compression, bits, samples, is_planar)?;
        let has_differences = compression.may_have_differences() && has_differences(file, bits, &color)?;
        let is_reversed = file.first(tag::FILL_ORDER, 1)? == 2 && compression != Compression::Jpeg;
        let mut page = Self {
            width,
            height,
            color,
            bits,
            samples,
            is_planar,
            is_reversed,
            has_differences,
            compression,
            chunks: Chunks::read(file, width, height)?,
        };
        page.settle_subsampling();
        Ok(page)
    }

    /// Returns the number of planes that are decoded. It is one if the samples of a pixel are stored together.
    pub(super) fn planes(&self) -> u32 {
        if self.is_planar { self.color.samples() as u32 } else { 1 }
    }

    /// Returns the bytes of a row of a chunk, and the rows that share them.
    pub(super) fn row_bytes(&self) -> (u64, u32) {
        let width = u64::from(self.chunks.width);
        if let Color::YCbCr(ycbcr) = &self.color
            && !self.is_planar
        {
            return ycbcr.row_bytes(width);
        }
        let samples = if self.is_planar { 1 } else { self.samples };
        ((width * u64::from(samples) * u64::from(self.bits)).div_ceil(8), 1)
    }

    /// Returns the bytes of so many rows of a chunk.
    pub(super) fn chunk_bytes(&self, rows: u32) -> u64 {
        let (bytes, shared_by) = self.row_bytes();
        bytes * u64::from(rows.div_ceil(shared_by))
    }

    /// Decides by the length of a strip whether chroma is subsampled. TIFF 6.0 halves the color of YCbCr in both
    /// directions unless the file says otherwise. Writers of whole pixels without compression often omit that, and
    /// Pillow reads all such files as whole.
    fn settle_subsampling(&mut self) {
        if self.compression != Compression::None || self.chunks.file.entry(tag::YCBCR_SUBSAMPLING).is_some() {
            return;
        }
        let Color::YCbCr(ycbcr) = &self.color else { return };
        let whole = ycbcr.whole();
        let rows = self.chunks.height.min(self.height);
        let halved = self.chunk_bytes(rows);
        if self.chunks.length(0).is_none_or(|length| length != halved) {
            self.color = Color::YCbCr(Box::new(whole));
        }
    }
}

/// Returns the samples of a pixel, and their bits.
fn samples(file: Tiff) -> Result<(u32, u32)> {
    const MAX_SAMPLES: u64 = 8;
    let bits = file.entry(tag::BITS);
    let samples = file.first(tag::SAMPLES, bits.map_or(1, |bits| bits.length))?.max(1);
    if samples > MAX_SAMPLES {
        return Err("it has too many samples a pixel");
    }
    let of_all = |entry: Option<super::directory::Entry>, default| {
        let Some(entry) = entry else { return Ok(default) };
        let first = entry.value(0)?;
        for index in 1..entry.length.min(samples) {
            if entry.value(index)? != first {
                return Err("its samples are of different types");
            }
        }
        Ok(first)
    };
    let bits = of_all(bits, 1)?;
    const UNSIGNED: u64 = 1;
    const SIGNED: u64 = 2;
    const FLOAT: u64 = 3;
    const UNDEFINED: u64 = 4;
    match of_all(file.entry(tag::SAMPLE_FORMAT), UNSIGNED)? {
        UNSIGNED | UNDEFINED if matches!(bits, 1 | 2 | 4 | 8 | 12 | 16) => {}
        // Pillow reads signed bytes as unsigned.
        SIGNED if bits == 8 => {}
        SIGNED => return Err("its samples are signed, and which level is white is not known"),
        FLOAT => return Err("its samples are floating-point numbers, and which level is white is not known"),
        UNSIGNED | UNDEFINED => return Err("samples of so many bits are not supported"),
        _ => return Err("samples of such a format are not supported"),
    }
    Ok((samples as u32, bits as u32))
}

/// Returns the meaning of the samples.
fn color(file: Tiff, compression: Compression, bits: u32, samples: u32, is_planar: bool) -> Result<Color> {
    /// Colors are multiplied by this kind of alpha.
    const ASSOCIATED: u64 = 1;
    let is_jpeg = compression == Compression::Jpeg;
    let is_premultiplied = file.first(tag::EXTRA_SAMPLES, 0)? == ASSOCIATED;
    let color = match file.first(tag::PHOTOMETRIC, photometric::WHITE_IS_ZERO)? {
        kind @ (photometric::WHITE_IS_ZERO | photometric::BLACK_IS_ZERO) => Color::Gray {
            is_inverted: kind == photometric::WHITE_IS_ZERO,
            is_premultiplied: is_premultiplied && samples > 1,
        },
        photometric::YCBCR if samples == 1 => Color::Gray { is_inverted: false, is_premultiplied: false },
        photometric::RGB => Color::Rgb { is_premultiplied: is_premultiplied && samples > 3 },
        photometric::PALETTE if bits <= 8 => Color::palette(file, bits)?,
        photometric::CMYK => Color::Cmyk,
        // The JPEG's decoder turns it into RGB.
        photometric::YCBCR if is_jpeg && !is_planar => Color::Rgb { is_premultiplied: false },
        photometric::YCBCR => Color::YCbCr(Box::new(YCbCr::read(file, compression, is_planar)?)),
        8..=10 => return Err("colours in CIELab are not supported"),
        _ => return Err("colours of such a kind are not supported"),
    };
    if (samples as usize) < color.samples() {
        return Err("it has fewer samples than its colours need");
    }
    let is_colorful = !matches!(color, Color::Gray { .. } | Color::Palette(_));
    let fits = match bits {
        8 => true,
        _ if is_jpeg => false,
        16 => !matches!(color, Color::YCbCr(_) | Color::Palette(_)),
        12 => matches!(color, Color::Gray { .. }),
        _ => !is_colorful,
    };
    if !fits {
        return Err("samples of so many bits are not supported for its colours");
    }
    if compression.is_of_bits() && (bits != 1 || samples != 1) {
        return Err("its compression is for one bit a pixel");
    }
    Ok(color)
}

/// Returns true if the samples are stored as differences.
fn has_differences(file: Tiff, bits: u32, color: &Color) -> Result<bool> {
    const NONE: u64 = 1;
    const HORIZONTAL: u64 = 2;
    let is_whole = !matches!(color, Color::YCbCr(ycbcr) if ycbcr.is_subsampled());
    match file.first(tag::PREDICTOR, NONE)? {
        0 | NONE => Ok(false),
        HORIZONTAL if (bits == 8 || bits == 16) && is_whole => Ok(true),
        _ => Err("its predictor is not supported"),
    }
}
