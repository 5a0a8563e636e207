//! The decompression of chunks. External crates: `flate2`, `lzma-rust2`, `ruzstd`, `weezl`.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use weezl::{BitOrder, LzwStatus, decode::Decoder};

use crate::pixels::tiff::compression::Compression;
use crate::pixels::tiff::error::{BROKEN, Result, SHORT};
use crate::pixels::tiff::jpeg::Streams;
use crate::pixels::tiff::page::Page;

/// Limits for the memory in which decoders of Zstandard and LZMA look back: as much as encoders ask for at their
/// highest levels. Zstandard's decoder takes up to four times as much while its memory grows.
pub(super) const ZSTD_WINDOW: u64 = 128 * 1024 * 1024;
pub(super) const LZMA_WINDOW: u64 = 64 * 1024 * 1024;

/// The decoders of a page, which are used for one chunk after another.
pub(super) struct Decoders<'a> {
    compression: Compression,
    /// Pixels of a row of a chunk.
    width: u32,
    jpeg: Streams<'a>,
    lzw: Option<Decoder>,
    inflate: Option<Decompress>,
}

impl<'a> Decoders<'a> {
    pub(super) fn new(page: &Page<'a>) -> Self {
        let jpeg = Streams::new(page);
        Self { compression: page.compression, width: page.chunks.width, jpeg, lzw: None, inflate: None }
    }

    /// Fills `rows` with the first bytes of a chunk.
    pub(super) fn fill(&mut self, stored: &[u8], row_bytes: usize, rows: &mut [u8]) -> Result<()> {
        match self.compression {
            Compression::None => rows.copy_from_slice(stored.get(..rows.len()).ok_or(SHORT)?),
            Compression::Fax(fax) => fax.fill(stored, self.width, row_bytes, rows)?,
            Compression::Lzw => self.lzw(stored, rows)?,
            Compression::Deflate => self.inflate(stored, rows)?,
            Compression::PackBits => unpack_bits(stored, rows)?,
            Compression::Lzma => {
                // The window and tables.
                let kilobytes = (LZMA_WINDOW / 1024 + 1024) as u32;
                read_all(XzReader::new_mem_limit(stored, false, kilobytes), rows)?;
            }
            Compression::Zstd => {
                let mut frames = FrameDecoder::new();
                frames.set_max_window_size(ZSTD_WINDOW);
                read_all(StreamingDecoder::new_with_decoder(stored, frames).map_err(|_| BROKEN)?, rows)?;
            }
            Compression::Jpeg => self.jpeg.fill(stored, rows)?,
        }
        Ok(())
    }

    fn lzw(&mut self, mut chunk: &[u8], mut rows: &mut [u8]) -> Result<()> {
        // Before TIFF 5.0 codes were stored from the lowest bit on, as in a GIF. Then a chunk begins with 0 and an odd
        // byte.
        let is_old = matches!(chunk, [0, second, ..] if second & 1 == 1);
        let mut old = is_old.then(|| Decoder::new(BitOrder::Lsb, 8));
        let decoder = match &mut old {
            Some(decoder) => decoder,
            None => self.lzw.get_or_insert_with(|| Decoder::with_tiff_size_switch(BitOrder::Msb, 8)),
        };
        decoder.reset();
        while !rows.is_empty() {
            let step = decoder.decode_bytes(chunk, rows);
            chunk = chunk.get(step.consumed_in..).unwrap_or_default();
            rows = rows.get_mut(step.consumed_out..).unwrap_or_default();
            match step.status {
                Ok(LzwStatus::Ok) => {}
                Ok(LzwStatus::Done | LzwStatus::NoProgress) => break,
                Err(_) => return Err(BROKEN),
            }
        }
        if rows.is_empty() { Ok(()) } else { Err(SHORT) }
    }

    /// Inflates a chunk. The checksum is not verified, as in libtiff, because it follows bytes that may not be needed.
    fn inflate(&mut self, chunk: &[u8], rows: &mut [u8]) -> Result<()> {
        let Some(([method, flags], data)) = chunk.split_first_chunk() else { return Err(SHORT) };
        const DEFLATE: u8 = 8;
        const DICTIONARY: u8 = 0x20;
        if method & 15 != DEFLATE || flags & DICTIONARY != 0 || u16::from_be_bytes([*method, *flags]) % 31 != 0 {
            return Err(BROKEN);
        }
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        loop {
            let (read, written) = (inflate.total_in() as usize, inflate.total_out() as usize);
            let (data, rows) = (data.get(read..).unwrap_or_default(), &mut rows[written..]);
            if rows.is_empty() {
                return Ok(());
            }
            inflate.decompress(data, rows, FlushDecompress::None).map_err(|_| BROKEN)?;
            if (read, written) == (inflate.total_in() as usize, inflate.total_out() as usize) {
                return Err(SHORT);
            }
        }
    }
}

fn read_all(mut decoder: impl Read, rows: &mut [u8]) -> Result<()> {
    decoder.read_exact(rows).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SHORT,
        _ => BROKEN,
    })
}

fn unpack_bits(mut chunk: &[u8], mut rows: &mut [u8]) -> Result<()> {
    const NOTHING: u8 = 0x80;
    while !rows.is_empty() {
        let (&count, rest) = chunk.split_first().ok_or(SHORT)?;
        let length = match count {
            NOTHING => 0,
            count if count < NOTHING => usize::from(count) + 1,
            count => 257 - usize::from(count),
        };
        let used = length.min(rows.len());
        let (done, more) = std::mem::take(&mut rows).split_at_mut(used);
        let stored = if count < NOTHING { length } else { usize::from(count != NOTHING) };
        if count < NOTHING {
            done.copy_from_slice(rest.get(..used).ok_or(SHORT)?);
        } else if count > NOTHING {
            done.fill(*rest.first().ok_or(SHORT)?);
        }
        chunk = rest.get(stored..).unwrap_or_default();
        rows = more;
    }
    Ok(())
}
