//! YCbCr without JPEG compression: blocks of luma with one pair of chroma, and their conversion to RGB.
//!
//! Two conversions exist, because Pillow has two: its own for uncompressed files, and libtiff's for the others. They
//! differ in the last bits.

use crate::pixels::tiff::compression::Compression;
use crate::pixels::tiff::directory::{Tiff, tag};
use crate::pixels::tiff::error::Result;

/// The levels of luma by code, and the parts of red, green and blue by codes of chroma.
pub(in crate::pixels) struct YCbCr {
    /// Pixels that share a pair of chroma, in each direction.
    across: usize,
    down: usize,
    luma: [i32; 256],
    cr_red: [i32; 256],
    cb_green: [i32; 256],
    cr_green: [i32; 256],
    cb_blue: [i32; 256],
    /// Of the parts of green.
    shift: u32,
}

impl YCbCr {
    pub(super) fn read(file: Tiff, compression: Compression, is_planar: bool) -> Result<Self> {
        const HALVED: u64 = 2;
        let side = |index| -> Result<usize> {
            match file.entry(tag::YCBCR_SUBSAMPLING).map_or(Ok(HALVED), |entry| entry.value(index))? {
                side @ (1 | 2 | 4) => Ok(side as usize),
                _ => Err("its subsampling is not supported"),
            }
        };
        let (across, down) =
            if is_planar && file.entry(tag::YCBCR_SUBSAMPLING).is_none() { (1, 1) } else { (side(0)?, side(1)?) };
        if is_planar && (across, down) != (1, 1) {
            return Err("subsampled planes are not supported");
        }
        let tables = match compression {
            Compression::None if (across, down) == (1, 1) => Self::of_pillow(),
            _ => Self::of_libtiff(file)?,
        };
        Ok(Self { across, down, ..tables })
    }

    /// Returns the conversion of the same file, read as one that is not subsampled.
    pub(super) fn whole(&self) -> Self {
        Self::of_pillow()
    }

    pub(super) fn is_subsampled(&self) -> bool {
        (self.across, self.down) != (1, 1)
    }

    fn of_pillow() -> Self {
        const BITS: f64 = 64.0;
        let part = |factor: f64| std::array::from_fn(|code| ((code as f64 - 128.0) * factor * BITS + 0.5) as i32);
        let shifted = |factor| part(factor).map(|part: i32| part >> 6);
        Self {
            across: 1,
            down: 1,
            luma: std::array::from_fn(|code| code as i32),
            cr_red: shifted(1.402),
            cb_green: part(-0.34414),
            cr_green: part(-0.71414),
            cb_blue: shifted(1.772),
            shift: 6,
        }
    }

    /// Returns the tables of libtiff, computed in single precision where libtiff does so.
    fn of_libtiff(file: Tiff) -> Result<Self> {
        const MAX: f32 = 128.0 * 32.0;
        /// Numbers from this size on are not valid, and their sums would overflow.
        const SENSELESS: f64 = 1e9;
        let list = |tag, defaults: &mut [f32]| -> Result<()> {
            let Some(entry) = file.entry(tag).filter(|entry| entry.length >= defaults.len() as u64) else {
                return Ok(());
            };
            for (index, value) in defaults.iter_mut().enumerate() {
                let read = entry.rational(index as u64).filter(|value| value.abs() < SENSELESS);
                *value = read.ok_or("a number in its directory cannot be read")? as f32;
            }
            Ok(())
        };
        let mut coefficients = [0.299, 0.587, 0.114];
        let mut range = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];
        list(tag::YCBCR_COEFFICIENTS, &mut coefficients)?;
        list(tag::BLACK_AND_WHITE, &mut range)?;
        let [red, green, blue] = coefficients;
        if green == 0.0 {
            return Err("its colour coefficients have no green");
        }
        let fixed = |factor: f32| (f64::from(factor.clamp(0.0, 2.0)) * 65_536.0 + 0.5) as i32;
        let (red_part, blue_part) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let green_parts = [red * red_part / green, blue * blue_part / green].map(|part| -fixed(part));
        let code = |code: i32, black: f32, white: f32, max: f32| -> i32 {
            let span = if white == black { 1.0 } else { white - black };
            ((code - black as i32) as f32 * max / span).clamp(-MAX, MAX) as i32
        };
        let chroma = |black: f32, white: f32| -> [i32; 256] {
            std::array::from_fn(|value| code(value as i32 - 128, black - 128.0, white - 128.0, 127.0))
        };
        let (cb, cr) = (chroma(range[2], range[3]), chroma(range[4], range[5]));
        const HALF: i32 = 1 << 15;
        let whole = |codes: [i32; 256], factor: f32| codes.map(|code| (fixed(factor) * code + HALF) >> 16);
        Ok(Self {
            across: 1,
            down: 1,
            luma: std::array::from_fn(|value| code(value as i32, range[0], range[1], 255.0)),
            cr_red: whole(cr, red_part),
            cb_green: cb.map(|code| green_parts[1] * code + HALF),
            cr_green: cr.map(|code| green_parts[0] * code),
            cb_blue: whole(cb, blue_part),
            shift: 16,
        })
    }

    /// Returns the bytes of a row of blocks of such a width, and the rows of pixels in it.
    pub(super) fn row_bytes(&self, width: u64) -> (u64, u32) {
        let block = self.across * self.down + 2;
        (width.div_ceil(self.across as u64) * block as u64, self.down as u32)
    }

    /// Picks the samples of one row of pixels from a row of blocks.
    pub(super) fn pick(&self, blocks: &[u8], row: usize, samples: &mut [u8]) {
        let lumas = self.across * self.down;
        let first = row % self.down * self.across;
        for (block, pixels) in blocks.chunks_exact(lumas + 2).zip(samples.chunks_mut(3 * self.across)) {
            for (luma, pixel) in block[first..].iter().zip(pixels.chunks_exact_mut(3)) {
                pixel.copy_from_slice(&[*luma, block[lumas], block[lumas + 1]]);
            }
        }
    }

    pub(super) fn to_rgb(&self, luma: u8, cb: u8, cr: u8) -> [u8; 3] {
        let (luma, cb, cr) = (self.luma[usize::from(luma)], usize::from(cb), usize::from(cr));
        let green = (self.cb_green[cb] + self.cr_green[cr]) >> self.shift;
        [self.cr_red[cr], green, self.cb_blue[cb]].map(|part| (luma + part).clamp(0, 255) as u8)
    }
}
