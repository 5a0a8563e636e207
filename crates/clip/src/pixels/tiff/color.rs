//! Samples to RGB, by Pillow's rules: samples of more than eight bits become their high byte, and alpha is dropped.

use crate::pixels::tiff::directory::{Tiff, tag};
use crate::pixels::tiff::error::Result;
use crate::pixels::tiff::ycbcr::YCbCr;

/// The meaning of a pixel's samples. Samples that follow are not used.
pub(in crate::pixels) enum Color {
    /// One level, and the alpha that it was multiplied by.
    Gray {
        is_inverted: bool,
        is_premultiplied: bool,
    },
    /// An index into the palette.
    Palette(Box<[[u8; 3]; 256]>),
    /// Three levels, and the alpha that they were multiplied by.
    Rgb {
        is_premultiplied: bool,
    },
    /// Four inks.
    Cmyk,
    YCbCr(Box<YCbCr>),
}

impl Color {
    /// Reads the palette. Colors that are missing in the file are black.
    pub(super) fn palette(file: Tiff, bits: u32) -> Result<Self> {
        let entry = file.entry(tag::PALETTE).ok_or("it has no palette")?;
        let plane = entry.length / 3;
        let mut palette = Box::new([[0; 3]; 256]);
        for (color, index) in palette.iter_mut().zip(0..plane.min(1 << bits)) {
            for (level, channel) in color.iter_mut().zip(0..) {
                *level = (entry.value(channel * plane + index)? >> 8) as u8;
            }
        }
        Ok(Self::Palette(palette))
    }

    /// Returns the number of samples that are used.
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Gray { is_premultiplied, .. } => 1 + usize::from(*is_premultiplied),
            Self::Palette(_) => 1,
            Self::Rgb { is_premultiplied } => 3 + usize::from(*is_premultiplied),
            Self::Cmyk => 4,
            Self::YCbCr(_) => 3,
        }
    }

    /// Returns the factor from a sample of so many bits to a level of eight.
    pub(super) fn scale(&self, bits: u32) -> u8 {
        match (self, bits) {
            (Self::Palette(_), _) => 1,
            (_, 1) => 0xff,
            (_, 2) => 0x55,
            (_, 4) => 0x11,
            _ => 1,
        }
    }

    /// Converts a row of levels, `samples` of them for each pixel.
    pub(super) fn convert(&self, levels: &[u8], samples: usize, rgb: &mut [u8]) {
        let pixels = levels.chunks_exact(samples).zip(rgb.chunks_exact_mut(3));
        match self {
            Self::Gray { is_inverted, is_premultiplied } => pixels.for_each(|(levels, rgb)| {
                let level = if *is_inverted { 255 - levels[0] } else { levels[0] };
                rgb.fill(if *is_premultiplied { divided(level, levels[1]) } else { level });
            }),
            Self::Palette(palette) => {
                pixels.for_each(|(levels, rgb)| rgb.copy_from_slice(&palette[usize::from(levels[0])]));
            }
            Self::Rgb { is_premultiplied: true } => pixels.for_each(|(levels, rgb)| {
                rgb.iter_mut().zip(levels).for_each(|(rgb, level)| *rgb = divided(*level, levels[3]));
            }),
            Self::Rgb { is_premultiplied: false } if samples == 3 => rgb.copy_from_slice(levels),
            Self::Rgb { is_premultiplied: false } => pixels.for_each(|(levels, rgb)| rgb.copy_from_slice(&levels[..3])),
            Self::Cmyk => pixels.for_each(|(levels, rgb)| {
                rgb.iter_mut().zip(levels).for_each(|(rgb, ink)| *rgb = under_ink(*ink, 255 - levels[3]));
            }),
            Self::YCbCr(ycbcr) => pixels.for_each(|(levels, rgb)| {
                rgb.copy_from_slice(&ycbcr.to_rgb(levels[0], levels[1], levels[2]));
            }),
        }
    }
}

/// Restores a level that was multiplied by alpha. It is zero if alpha is zero.
fn divided(level: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        alpha => (u32::from(level) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// Returns the light that an ink leaves of `light`.
fn under_ink(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light - ((product + (product >> 8)) >> 8) as u8
}
