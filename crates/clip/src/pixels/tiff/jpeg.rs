//! JPEG strips and tiles: streams whose tables are often in the directory.

use crate::pixels::jpeg::{Colors, Jpeg};
use crate::pixels::tiff::chunks::Chunks;
use crate::pixels::tiff::directory::tag;
use crate::pixels::tiff::error::{Result, reserve};
use crate::pixels::tiff::page::Page;

/// The decoder of the JPEG streams of a page.
pub(super) struct Streams<'a> {
    tables: &'a [u8],
    colors: Colors,
    /// Samples of a pixel in each stream.
    samples: usize,
    width: u32,
    max: Size,
}

/// The stored size of a chunk.
#[derive(Clone, Copy)]
struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// Returns the largest size of a stream. It is that of the chunk, but some encoders store whole blocks.
    fn of(chunks: &Chunks) -> Self {
        const BLOCKS: u32 = 32;
        let whole = |side: u32| side.div_ceil(BLOCKS).saturating_mul(BLOCKS);
        Self { width: whole(chunks.width), height: whole(chunks.stored_height) }
    }

    /// Returns the bytes of coefficients of two bytes, samples, and rows.
    fn bytes(self, samples: u64) -> u64 {
        const ROWS: u64 = 128;
        u64::from(self.width).saturating_mul(4 * u64::from(self.height) + ROWS).saturating_mul(samples)
    }
}

/// Returns the bytes that decoding a chunk takes, with the samples that its stream has in excess.
pub(super) fn bytes_to_decode(chunks: &Chunks, samples: u32) -> u64 {
    Size::of(chunks).bytes(2 * u64::from(samples)).saturating_add(chunks.file.0.len() as u64)
}

/// Returns the largest size of a stream.
pub(super) fn max_size(chunks: &Chunks) -> (u64, u64) {
    let Size { width, height } = Size::of(chunks);
    (width.into(), height.into())
}

impl<'a> Streams<'a> {
    pub(super) fn new(page: &Page<'a>) -> Self {
        const YCBCR: u64 = 6;
        /// A stream without tables.
        const NONE: &[u8] = b"\xff\xd8\xff\xd9";
        let tables = page.chunks.file.entry(tag::JPEG_TABLES).and_then(|entry| entry.bytes()).unwrap_or(NONE);
        let is_ycc = page.chunks.file.first(tag::PHOTOMETRIC, 0) == Ok(YCBCR) && page.samples == 3 && !page.is_planar;
        Self {
            tables,
            colors: if is_ycc { Colors::FromYcc } else { Colors::Stored },
            samples: if page.is_planar { 1 } else { page.samples as usize },
            width: page.chunks.width,
            max: Size::of(&page.chunks),
        }
    }

    /// Fills `rows` with the first rows of a stream.
    pub(super) fn fill(&self, stored: &[u8], rows: &mut [u8]) -> Result<()> {
        const END: &[u8] = b"\xff\xd9";
        // libtiff adds a missing end.
        if stored.ends_with(END) {
            return self.decode(stored, rows);
        }
        let mut whole = reserve((stored.len() + END.len()) as u64)?;
        whole.extend_from_slice(stored);
        whole.extend_from_slice(END);
        self.decode(&whole, rows)
    }

    fn decode(&self, stored: &[u8], rows: &mut [u8]) -> Result<()> {
        let jpeg = Jpeg::open_with_tables(self.tables, stored)?;
        let (width, height) = (jpeg.width(), jpeg.height());
        let row_bytes = self.width as usize * self.samples;
        if jpeg.channels(self.colors) != self.samples
            || width < self.width
            || (height as usize) < rows.len() / row_bytes
        {
            return Err("a JPEG in it does not fit its place");
        }
        if width > self.max.width || height > self.max.height || jpeg.bytes() > self.max.bytes(self.samples as u64) {
            return Err("a JPEG in it is larger than its place");
        }
        let stored_bytes = width as usize * self.samples;
        let length = stored_bytes * height as usize;
        if length == rows.len() {
            return jpeg.decode(self.colors, rows);
        }
        let mut samples = reserve(length as u64)?;
        samples.resize(length, 0);
        jpeg.decode(self.colors, &mut samples)?;
        for (row, stored) in rows.chunks_exact_mut(row_bytes).zip(samples.chunks_exact(stored_bytes)) {
            row.copy_from_slice(&stored[..row_bytes]);
        }
        Ok(())
    }
}
