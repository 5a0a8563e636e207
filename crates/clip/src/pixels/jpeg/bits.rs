//! Bits of the coded data.
//! They are fetched when libjpeg fetches them, because that decides whether a truncated image can still be read.

use super::block::NATURAL;
use super::error::Result;
use super::huffman::{SHORT, Table, WITH_VALUE, extend};
use super::reader::Reader;

/// Returns true if one of the bytes is 0xff.
fn has_marker(word: u64) -> bool {
    let inverted = !word;
    inverted.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 != 0
}

/// Bits that were fetched and are not yet used.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    buffer: u64,
    left: u32,
    /// True at the end of this segment's data. Missing bits are zero.
    pub is_empty: bool,
}

impl Bits {
    /// Bits after a fetch, if the data has so many.
    const FULL: u32 = 57;

    /// Begins a segment, as after a restart marker.
    pub fn restart(&mut self, reader: &mut Reader) -> Result<()> {
        self.left = 0;
        reader.restart()?;
        if reader.marker == 0 {
            self.is_empty = false;
        }
        Ok(())
    }

    #[inline(never)]
    fn fetch(&mut self, reader: &mut Reader, wanted: u32) -> Result<()> {
        while reader.marker == 0 && self.left < Self::FULL {
            let next = reader.bytes.get(reader.at..).and_then(<[u8]>::first_chunk::<8>);
            if let Some(word) = next.map(|&bytes| u64::from_be_bytes(bytes)).filter(|&word| !has_marker(word)) {
                let bytes = (64 - self.left) / 8;
                let kept = if bytes == 8 { 0 } else { self.buffer << (8 * bytes) };
                self.buffer = kept | word >> (64 - 8 * bytes);
                self.left += 8 * bytes;
                reader.at += bytes as usize;
                return Ok(());
            }
            let mut byte = reader.byte()?;
            if byte == 0xff {
                while byte == 0xff {
                    byte = reader.byte()?;
                }
                if byte != 0 {
                    reader.marker = byte;
                    break;
                }
                byte = 0xff;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.left += 8;
        }
        if wanted > self.left {
            self.is_empty = true;
            self.buffer <<= Self::FULL - self.left;
            self.left = Self::FULL;
        }
        Ok(())
    }

    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> self.left.wrapping_sub(count)) as u32 & ((1 << count) - 1)
    }

    /// Takes up to 16 bits.
    #[inline(always)]
    pub fn take(&mut self, reader: &mut Reader, count: u32) -> Result<u32> {
        if self.left < count {
            self.fetch(reader, count)?;
        }
        self.left -= count;
        Ok((self.buffer >> self.left) as u32 & ((1 << count) - 1))
    }

    /// Takes the value of so many bits that follows a symbol.
    #[inline(always)]
    pub fn value(&mut self, reader: &mut Reader, size: u32) -> Result<i32> {
        Ok(if size == 0 { 0 } else { extend(self.take(reader, size)?, size) })
    }

    #[inline(always)]
    pub fn symbol(&mut self, reader: &mut Reader, table: &Table) -> Result<u8> {
        if self.left < SHORT {
            self.fetch(reader, 0)?;
            if self.left < SHORT {
                return self.long_symbol(reader, table, 1);
            }
        }
        let entry = table.short[self.peek(SHORT) as usize];
        let length = u32::from(entry >> 8);
        if length > SHORT {
            return self.long_symbol(reader, table, length);
        }
        self.left -= length;
        Ok(entry as u8)
    }

    #[cold]
    fn long_symbol(&mut self, reader: &mut Reader, table: &Table, mut length: u32) -> Result<u8> {
        let mut code = self.take(reader, length)? as i32;
        while code > table.largest[length as usize] {
            code = code << 1 | self.take(reader, 1)? as i32;
            length += 1;
        }
        // Damaged data: a zero does the least harm.
        if length > 16 {
            return Ok(0);
        }
        Ok(table.symbols[(code + table.offset[length as usize]) as usize & 0xff])
    }
}

/// A reader far from the end of the data and from markers, where no check is needed.
pub(super) struct Fast<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    left: u32,
}

impl<'a> Fast<'a> {
    /// Largest size of a block in bytes.
    const BLOCK: usize = 512;

    /// Returns None near the end of the data or a marker.
    pub fn new(bits: &Bits, reader: &Reader<'a>, blocks: usize) -> Option<Self> {
        let is_far = reader.bytes.len().saturating_sub(reader.at) >= Self::BLOCK * blocks;
        let Bits { buffer, left, .. } = *bits;
        (is_far && reader.marker == 0).then_some(Self { bytes: reader.bytes, at: reader.at, buffer, left })
    }

    pub fn end(self, bits: &mut Bits, reader: &mut Reader) {
        (bits.buffer, bits.left, reader.at) = (self.buffer, self.left, self.at);
    }

    /// Fetches six bytes if 16 bits or fewer are left. Returns None at a marker.
    #[inline(always)]
    fn fetch(&mut self) -> Option<()> {
        if self.left <= 16 {
            let word = u64::from_be_bytes(*self.bytes.get(self.at..)?.first_chunk()?);
            // The last two are not fetched.
            if has_marker(word >> 16) {
                return self.fetch_stuffed();
            }
            self.buffer = self.buffer << 48 | word >> 16;
            self.left += 48;
            self.at += 6;
        }
        Some(())
    }

    #[cold]
    fn fetch_stuffed(&mut self) -> Option<()> {
        for _ in 0..6 {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if byte == 0xff {
                if *self.bytes.get(self.at)? != 0 {
                    return None;
                }
                self.at += 1;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.left += 8;
        }
        Some(())
    }

    #[inline(always)]
    fn look(&self, count: u32) -> usize {
        (self.buffer >> self.left.wrapping_sub(count)) as usize & ((1 << count) - 1)
    }

    #[inline(always)]
    fn symbol(&mut self, table: &Table) -> Option<u8> {
        self.fetch()?;
        let entry = table.short[self.look(SHORT)];
        let length = u32::from(entry >> 8);
        self.left = self.left.wrapping_sub(length);
        if length <= SHORT { Some(entry as u8) } else { Some(self.long_symbol(table)) }
    }

    #[cold]
    fn long_symbol(&mut self, table: &Table) -> u8 {
        let mut length = SHORT as usize + 1;
        let mut code = (self.buffer >> self.left) as i32 & ((1 << length) - 1);
        while code > table.largest[length] {
            self.left = self.left.wrapping_sub(1);
            code = code << 1 | (self.buffer >> self.left) as i32 & 1;
            length += 1;
        }
        if length > 16 { 0 } else { table.symbols[(code + table.offset[length]) as usize & 0xff] }
    }

    #[inline(always)]
    fn value(&mut self, size: u32) -> Option<i32> {
        self.fetch()?;
        self.left = self.left.wrapping_sub(size);
        Some(extend((self.buffer >> self.left) as u32 & ((1 << size) - 1), size))
    }

    #[inline(always)]
    pub fn difference(&mut self, table: &Table) -> Option<i32> {
        match self.symbol(table)? {
            0 => Some(0),
            size => self.value(size.into()),
        }
    }

    /// Returns the coefficients of a block after its first.
    #[inline(always)]
    pub fn coefficients(&mut self, table: &Table, block: &mut [i16; 64]) -> Option<()> {
        let with_value: &[u32; 1 << WITH_VALUE] = table.with_value.first_chunk()?;
        let mut place = 1;
        while place < 64 {
            self.fetch()?;
            let entry = with_value[self.look(WITH_VALUE)];
            if entry != 0 {
                place += (entry >> 8 & 0xff) as usize;
                self.left = self.left.wrapping_sub(entry & 0xff);
                block[usize::from(NATURAL[(place - 1) & 127])] = (entry >> 16) as i16;
                continue;
            }
            let symbol = self.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size != 0 {
                place += run + 1;
                block[usize::from(NATURAL[(place - 1) & 127])] = self.value(size)? as i16;
            } else if run == 15 {
                place += 16;
            } else {
                break;
            }
        }
        Some(())
    }
}
