//! Huffman codes, and the tables for decoding them.

use super::error::Result;

/// Codes up to this length are looked up at once.
pub(super) const SHORT: u32 = 8;
/// Codes with the value that follows them are looked up at once, if both are no longer together.
pub(super) const WITH_VALUE: u32 = 10;

/// A step that leads out of the block.
const BLOCK_END: u32 = 192;

/// A table as the file defines it.
#[derive(Clone)]
pub(super) struct Codes {
    counts: [u8; 16],
    values: Vec<u8>,
}

impl Codes {
    pub fn new(counts: [u8; 16], values: &[u8]) -> Self {
        Self { counts, values: values.into() }
    }

    /// Returns the tables that Motion-JPEG omits: for DC and AC, of brightness and of color.
    pub fn standard() -> [[Self; 2]; 2] {
        let dc = [[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]];
        let ac =
            [[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125], [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119]];
        let differences: [u8; 12] = std::array::from_fn(|value| value as u8);
        [dc.map(|counts| Self::new(counts, &differences)), [Self::new(ac[0], &BRIGHTNESS), Self::new(ac[1], &COLOUR)]]
    }
}

/// A table for decoding.
pub(super) struct Table {
    /// By the next 8 bits: length and symbol, or a length of 9 for those that are longer.
    pub short: [u16; 1 << SHORT],
    /// By the next 10 bits: the value, the coefficients to go on, and the bits of both. No bits where these are not
    /// enough.
    pub with_value: Vec<u32>,
    /// The largest code of each length, and the offset from a code to its symbol.
    pub largest: [i32; 18],
    pub offset: [i32; 18],
    pub symbols: [u8; 256],
}

impl Table {
    pub fn new(codes: Option<&Codes>, max: u8) -> Result<Self> {
        const WRONG: &str = "a Huffman table is not valid";
        let codes = codes.ok_or("a Huffman table is missing")?;
        if codes.values.iter().any(|&value| value > max) {
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
                // A code must not consist of ones only.
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

    /// Adds the values, which only whole blocks need.
    pub fn with_values(mut self) -> Self {
        let entry = |bits: u32| {
            let short = self.short[(bits >> (WITH_VALUE - SHORT)) as usize];
            let (length, symbol) = (u32::from(short >> 8), u32::from(short & 0xff));
            let (run, size) = (symbol >> 4, symbol & 15);
            if length > SHORT || length + size > WITH_VALUE {
                return 0;
            }
            if size == 0 {
                return if run == 15 { 16 << 8 | length } else { BLOCK_END << 8 | length };
            }
            let raw = bits >> (WITH_VALUE - length - size) & ((1 << size) - 1);
            (extend(raw, size) as u32) << 16 | (run + 1) << 8 | (length + size)
        };
        self.with_value = (0..1 << WITH_VALUE).map(entry).collect();
        self
    }
}

/// Returns the difference or coefficient of these bits.
#[inline(always)]
pub(super) fn extend(raw: u32, size: u32) -> i32 {
    let raw = raw as i32;
    if size > 0 && raw < 1 << (size - 1) { raw - (1 << size) + 1 } else { raw }
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
