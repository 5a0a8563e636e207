//! The cost of decoding a page: its memory, and checks that reject a page that costs far more than its size says.

use crate::pixels::jpeg::{MAX_SCANNED_PIXELS, scanned_pixels};
use crate::pixels::tiff::chunks::Chunks;
use crate::pixels::tiff::compression::Compression;
use crate::pixels::tiff::decompress::{LZMA_WINDOW, ZSTD_WINDOW};
use crate::pixels::tiff::directory::Tiff;
use crate::pixels::tiff::error::Result;
use crate::pixels::tiff::jpeg;
use crate::pixels::tiff::page::Page;

impl Tiff<'_> {
    /// Returns why the first page is not decoded, though its directory is in order: chunks that are much larger than
    /// the image, or that lie in one another, would be decoded whole.
    pub(in crate::pixels) fn defect(self, size: (u64, u64), max_pixels: u64) -> Option<&'static str> {
        let check = |page: Page| page.chunks.check(size, page.planes(), page.compression, max_pixels);
        Page::read(self).and_then(check).err()
    }

    /// Returns the bytes that decoding takes in addition to the image and to the tables of fixed size.
    pub(in crate::pixels) fn bytes_to_decode(self) -> u64 {
        Page::read(self).map_or(0, |page| page.bytes_to_decode())
    }
}

impl Page<'_> {
    /// Returns the bytes of a chunk of all planes, of its data with reversed bits, and of its decoder.
    fn bytes_to_decode(&self) -> u64 {
        let chunk = self.chunk_bytes(self.chunks.height).saturating_mul(self.planes().into());
        let reversed = if self.is_reversed { self.chunks.file.0.len() as u64 } else { 0 };
        let row = u64::from(self.chunks.width) * u64::from(self.samples);
        chunk
            .saturating_add(reversed + row)
            .saturating_add(self.compression.bytes_to_decode(&self.chunks, self.samples))
    }
}

impl Compression {
    /// Returns the memory that decoding takes in addition to the chunk.
    fn bytes_to_decode(self, chunks: &Chunks, samples: u32) -> u64 {
        match self {
            Self::Jpeg => jpeg::bytes_to_decode(chunks, samples),
            Self::Zstd => {
                let frames = (0..).map_while(|index| chunks.bytes(index).ok());
                4 * frames.filter_map(zstd_window).max().unwrap_or(0).min(ZSTD_WINDOW)
            }
            Self::Lzma => 2 * LZMA_WINDOW,
            _ => 0,
        }
    }
}

impl Chunks<'_> {
    /// Rejects chunks that cost far more to decode than such an image.
    fn check(&self, size: (u64, u64), planes: u32, compression: Compression, max_pixels: u64) -> Result<()> {
        const MAX_TILE_SIDE: u64 = 1 << 16;
        /// Largest number of chunks, which suffices for the largest images in tiles of 16 x 16. Starting a decoder
        /// takes up to four microseconds.
        const MAX_CHUNKS: u64 = 1 << 18;
        let (width, height) = (u64::from(self.width), u64::from(self.stored_height));
        let decoded = (self.across * width).saturating_mul(self.down * height);
        if width > size.0.max(MAX_TILE_SIDE) || height > size.1.max(MAX_TILE_SIDE) || decoded > 2 * max_pixels {
            return Err("its tiles are much larger than it is");
        }
        let count = self.count().saturating_mul(planes.into());
        if count > MAX_CHUNKS {
            return Err("it has too many strips or tiles");
        }
        if compression == Compression::None {
            return Ok(());
        }
        let (mut stored, mut scanned) = (0, 0);
        for index in 0..count {
            let bytes = self.bytes(index)?;
            stored += bytes.len();
            if stored > 2 * self.file.0.len() {
                return Err("its strips or tiles lie in one another");
            }
            if compression == Compression::Jpeg {
                scanned += scanned_pixels(bytes, jpeg::max_size(self))?;
                if scanned > MAX_SCANNED_PIXELS {
                    return Err("it has too many scans for its size");
                }
            }
        }
        Ok(())
    }
}

/// Returns the window that a Zstandard frame asks for (RFC 8878, 3.1.1.1).
fn zstd_window(frame: &[u8]) -> Option<u64> {
    let [_, _, _, _, descriptor, rest @ ..] = frame else { return None };
    const IS_ONE_SEGMENT: u8 = 0x20;
    if descriptor & IS_ONE_SEGMENT == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The window is the content, whose size follows, after the number of a dictionary.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(dictionary..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*size.first()?),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*size.first_chunk()?)),
        _ => u64::from_le_bytes(*size.first_chunk()?),
    })
}
