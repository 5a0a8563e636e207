//! The compression of a page's chunks.

use crate::pixels::tiff::directory::{Tiff, tag};
use crate::pixels::tiff::error::Result;
use crate::pixels::tiff::fax::Fax;

/// The compression of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pixels) enum Compression {
    None,
    Fax(Fax),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Lzma,
    Zstd,
}

impl Compression {
    pub(super) fn of(file: Tiff) -> Result<Self> {
        const NONE: u64 = 1;
        Ok(match file.first(tag::COMPRESSION, NONE)? {
            NONE => Self::None,
            2 => Self::Fax(Fax::Rle { aligned_to: 8 }),
            3 => Self::Fax(Fax::Group3 { is_2d: file.first(tag::GROUP_3_OPTIONS, 0)? & 1 == 1 }),
            4 => Self::Fax(Fax::Group4),
            5 => Self::Lzw,
            7 => Self::Jpeg,
            8 | 32_946 => Self::Deflate,
            32_771 => Self::Fax(Fax::Rle { aligned_to: 16 }),
            32_773 => Self::PackBits,
            34_925 => Self::Lzma,
            50_000 => Self::Zstd,
            6 => return Err("JPEG compression of the old kind (before 1995) is not supported"),
            32_809 => return Err("ThunderScan compression is not supported"),
            50_001 => return Err("WebP compression is not supported"),
            _ => return Err("its compression is not supported"),
        })
    }

    pub(super) fn is_of_bits(self) -> bool {
        matches!(self, Self::Fax(_))
    }

    /// Returns true if a predictor is used. With other compressions it has no meaning, and decoders ignore it.
    pub(super) fn may_have_differences(self) -> bool {
        matches!(self, Self::Lzw | Self::Deflate | Self::Lzma | Self::Zstd)
    }
}
