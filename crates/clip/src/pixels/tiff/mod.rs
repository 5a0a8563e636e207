//! TIFF: the first page, decoded to RGB as Pillow and its libtiff do it. No `unsafe` code.
//!
//! The reader of the `image` crate lacks YCbCr, palettes, associated alpha, depths of 2, 4 and 12 bits, fax compression other
//! than Group 4, BigTIFF's colours and incomplete directories, so this one replaces it. Files are read in place.

mod chunks;
mod colour;
mod compression;
mod decoder;
mod directory;
mod fax;
mod jpeg;
mod page;
mod rows;
#[cfg(test)]
mod tests;
mod ycbcr;

pub(super) use directory::Tiff;
pub(super) use page::Page;

use chunks::Chunk;
use compression::{Compression, Decoders};

/// The reason why a file is rejected.
type Result<T> = std::result::Result<T, &'static str>;

fn reserve(length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    crate::memory::reserve(length).map_err(|_| "there is not enough memory for it")
}

impl Tiff<'_> {
    /// Returns why the first page is not decoded, though its directory is in order: chunks that are much larger than the
    /// picture, or that lie in one another, would be decoded whole.
    pub(super) fn defect(self, size: (u64, u64), most_pixels: u64) -> Option<&'static str> {
        let check = |page: Page| page.chunks.check(size, page.planes(), page.compression, most_pixels);
        Page::read(self).and_then(check).err()
    }

    /// The bytes that decoding takes in addition to the picture and to the tables of fixed size.
    pub(super) fn bytes_to_decode(self) -> u64 {
        Page::read(self).map_or(0, |page| page.bytes_to_decode())
    }
}

impl Page<'_> {
    /// A chunk of all planes, its stored bytes in another order, and what its decoder takes.
    fn bytes_to_decode(&self) -> u64 {
        let chunk = self.chunk_bytes(self.chunks.height).saturating_mul(self.planes().into());
        let reversed = if self.is_reversed { self.chunks.file.0.len() as u64 } else { 0 };
        let row = u64::from(self.chunks.width) * u64::from(self.samples);
        chunk
            .saturating_add(reversed + row)
            .saturating_add(self.compression.bytes_to_decode(&self.chunks, self.samples))
    }

    /// Decodes the page, without its orientation.
    fn decode(&self, rgb: &mut [u8]) -> Result<()> {
        let planes = u64::from(self.planes());
        let most = self.chunk_bytes(self.chunks.height) * planes;
        let mut rows = reserve(most)?;
        rows.resize(most as usize, 0);
        let mut samples = reserve(u64::from(self.chunks.width) * u64::from(self.samples))?;
        let mut decoders = Decoders::new(self);
        for chunk in self.chunks.iter(self.width, self.height) {
            let rows = &mut rows[..(self.chunk_bytes(chunk.height) * planes) as usize];
            self.fill(&chunk, &mut decoders, rows)?;
            for row in 0..chunk.height as usize {
                let place = ((chunk.top as usize + row) * self.width as usize + chunk.left as usize) * 3;
                self.convert(rows, row, &mut samples, &mut rgb[place..place + chunk.width as usize * 3]);
            }
        }
        Ok(())
    }

    /// Fills `rows` with the rows of a chunk, plane after plane.
    fn fill(&self, chunk: &Chunk, decoders: &mut Decoders, rows: &mut [u8]) -> Result<()> {
        let row_bytes = self.row_bytes().0 as usize;
        let planes = rows.chunks_exact_mut(self.chunk_bytes(chunk.height) as usize);
        for (plane, rows) in (0..).zip(planes) {
            let index = plane * self.chunks.count() + chunk.index;
            // A chunk that is not compressed has a known length. Lengths in files are often wrong.
            let stored = match self.compression {
                Compression::None => {
                    let rest = self.chunks.bytes_from(index)?;
                    rest.get(..rows.len()).ok_or(compression::SHORT)?
                }
                _ => self.chunks.bytes(index)?,
            };
            if self.is_reversed {
                let mut usual = reserve(stored.len() as u64)?;
                usual.extend(stored.iter().map(|byte| byte.reverse_bits()));
                decoders.fill(&usual, row_bytes, rows)?;
            } else {
                decoders.fill(stored, row_bytes, rows)?;
            }
            if self.has_differences {
                rows.chunks_exact_mut(row_bytes).for_each(|row| self.add_up(row));
            }
        }
        Ok(())
    }
}
