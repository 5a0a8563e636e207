//! Huffman codes, and the bits that they are read from.
//!
//! The bits are fetched when libjpeg fetches them: where a file is cut, that decides whether the picture can still be read.

use super::Result;
use super::markers::Reader;

/// Codes up to this length are looked up at once.
const SHORT: u32 = 8;
/// Codes with the value that follows them are looked up at once, if both are no longer together.
const WITH_VALUE: u32 = 10;

/// A table as it is defined.
#[derive(Clone)]
pub(super) struct Codes {
    counts: [u8; 16],
    values: Vec<u8>,
}

impl Codes {
    pub fn new(counts: [u8; 16], values: &[u8]) -> Self {
        Self { counts, values: values.into() }
    }

    /// The tables that Motion-JPEG leaves out: for DC and AC, of brightness and of colour.
    pub fn standard() -> [[Self; 2]; 2] {
        let dc = [[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]];
        let ac =
            [[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125], [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119]];
        let differences: [u8; 12] = std::array::from_fn(|value| value as u8);
        [dc.map(|counts| Self::new(counts, &differences)), [Self::new(ac[0], &BRIGHTNESS), Self::new(ac[1], &COLOUR)]]
    }
}

/// A table as it is decoded by.
pub(super) struct Table {
    /// By the next 8 bits: length and symbol, or a length of 9 for those that are longer.
    short: [u16; 1 << SHORT],
    /// By the next 10 bits: the value, the coefficients to go on, and the bits of both. No bits where these are not enough.
    with_value: Vec<u32>,
    /// The largest code of each length, and what leads from a code to its symbol.
    largest: [i32; 18],
    offset: [i32; 18],
    symbols: [u8; 256],
}

impl Table {
    pub fn new(codes: Option<&Codes>, most: u8) -> Result<Self> {
        const WRONG: &str = "a Huffman table is not valid";
        let codes = codes.ok_or("a Huffman table is missing")?;
        if codes.values.iter().any(|&value| value > most) {
            return Err(WRONG);
        }
        let mut table = Self {
            short: [(SHORT as u16 + 1) << 8; 1 << SHORT],
            with_value: Vec::new(),
            largest: [-1; 18],
            offset: [0; 18],
            symbols: [0; 256],
        };
        table.symbols[..codes.values.len()].copy_from_slice(&codes.values);
        let (mut code, mut place) = (0usize, 0usize);
        for (length, &count) in (1u32..).zip(&codes.counts) {
            let count = usize::from(count);
            if code + count > 1 << length {
                return Err(WRONG);
            }
            if count > 0 {
                // A code of ones only is no code.
                if code + count == 1 << length {
                    return Err(WRONG);
                }
                table.offset[length as usize] = place as i32 - code as i32;
                table.largest[length as usize] = (code + count - 1) as i32;
            }
            if length <= SHORT {
                for (code, &symbol) in (code..code + count).zip(&codes.values[place..]) {
                    let free = SHORT - length;
                    table.short[code << free..(code + 1) << free].fill((length as u16) << 8 | u16::from(symbol));
                }
            }
            place += count;
            code = (code + count) << 1;
        }
        // Ends the search.
        table.largest[17] = i32::MAX;
        Ok(table)
    }

    /// Prepares what only whole blocks need.
    pub fn with_values(mut self) -> Self {
        let entry = |bits: u32| {
            let short = self.short[(bits >> (WITH_VALUE - SHORT)) as usize];
            let (length, symbol) = (u32::from(short >> 8), u32::from(short & 0xff));
            let (run, size) = (symbol >> 4, symbol & 15);
            if length > SHORT || size == 0 || length + size > WITH_VALUE {
                return 0;
            }
            let raw = bits >> (WITH_VALUE - length - size) & ((1 << size) - 1);
            (extend(raw, size) as u32) << 16 | (run + 1) << 8 | (length + size)
        };
        self.with_value = (0..1 << WITH_VALUE).map(entry).collect();
        self
    }
}

/// A difference or coefficient by its bits.
fn extend(raw: u32, size: u32) -> i32 {
    let raw = raw as i32;
    if size > 0 && raw < 1 << (size - 1) { raw - (1 << size) + 1 } else { raw }
}

/// Whether one of the bytes is 0xff.
fn has_marker(word: u64) -> bool {
    let inverted = !word;
    inverted.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 != 0
}

/// Bits that were fetched and not yet taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    buffer: u64,
    left: u32,
    /// The data of this segment is at its end: what is missing is zero.
    pub is_empty: bool,
}

impl Bits {
    /// Fetched at least so many, where there are any.
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

/// Reads far from the end of the data, where no check is needed: up to a marker.
pub(super) struct Fast<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    left: u32,
}

impl<'a> Fast<'a> {
    /// The most bytes that a block takes.
    const BLOCK: usize = 512;

    /// Nothing where the end or a marker is near.
    pub fn new(bits: &Bits, reader: &Reader<'a>, blocks: usize) -> Option<Self> {
        let is_far = reader.bytes.len().saturating_sub(reader.at) >= Self::BLOCK * blocks;
        let Bits { buffer, left, .. } = *bits;
        (is_far && reader.marker == 0).then_some(Self { bytes: reader.bytes, at: reader.at, buffer, left })
    }

    pub fn end(self, bits: &mut Bits, reader: &mut Reader) {
        (bits.buffer, bits.left, reader.at) = (self.buffer, self.left, self.at);
    }

    /// Fetches six bytes where 16 bits or fewer are left. Nothing where there is a marker.
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

    /// The coefficients of a block after its first.
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
                block[usize::from(super::markers::NATURAL[(place - 1) & 127])] = (entry >> 16) as i16;
                continue;
            }
            let symbol = self.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size != 0 {
                place += run + 1;
                block[usize::from(super::markers::NATURAL[(place - 1) & 127])] = self.value(size)? as i16;
            } else if run == 15 {
                place += 16;
            } else {
                break;
            }
        }
        Some(())
    }
}

/// Symbols of the standard's tables for AC: the orders in which encoders met them.
#[rustfmt::skip]
const BRIGHTNESS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81,
    0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18,
    0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75,
    0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5,
    0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
#[rustfmt::skip]
const COLOUR: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08,
    0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25,
    0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47,
    0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
    0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4,
    0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
