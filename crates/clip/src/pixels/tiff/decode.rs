//! The decoding of a page, chunk after chunk.

use crate::pixels::tiff::chunks::Chunk;
use crate::pixels::tiff::compression::Compression;
use crate::pixels::tiff::decompress::Decoders;
use crate::pixels::tiff::error::{Result, SHORT, reserve};
use crate::pixels::tiff::page::Page;

impl Page<'_> {
    /// Decodes the page, without its orientation.
    pub(super) fn decode(&self, rgb: &mut [u8]) -> Result<()> {
        let planes = u64::from(self.planes());
        let bytes = self.chunk_bytes(self.chunks.height) * planes;
        let mut rows = reserve(bytes)?;
        rows.resize(bytes as usize, 0);
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
                    rest.get(..rows.len()).ok_or(SHORT)?
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
