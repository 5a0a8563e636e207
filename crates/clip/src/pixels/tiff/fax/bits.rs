//! The bits of a fax, and the codes of runs. External crate: `fax`, for the tables of codes.

use std::convert::Infallible;

use fax::BitReader;
use fax::maps::{black, white};

/// The end of a row: all pixels are read, an invalid code follows, or the line or the data ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    Row,
    Line,
    Data,
}

/// Bits from the highest on. Zeros follow the last.
pub(super) struct Bits<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    /// Returns the next bits, at most 16.
    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |offset: usize| u64::from(self.bytes.get(self.at / 8 + offset).copied().unwrap_or(0));
        let word = (byte(0) << 16 | byte(1) << 8 | byte(2)) << (self.at % 8) & 0xff_ffff;
        Some((word >> (24 - u32::from(bits.min(16)))) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.next_multiple_of(8) - self.at) as u8
    }
}

impl Bits<'_> {
    pub fn are_over(&self) -> bool {
        self.at >= 8 * self.bytes.len()
    }

    pub fn bit(&mut self) -> u16 {
        let bit = self.peek(1).unwrap_or(0);
        self.at += 1;
        bit
    }

    /// Returns true at an end of a line, which begins with eleven zeros. No code does.
    fn is_end_of_line_next(&self) -> bool {
        self.peek(11) == Some(0)
    }

    /// Skips the next end of a line: zeros and a one. Returns false if there is none.
    pub fn pass_end_of_line(&mut self) -> bool {
        while !self.is_end_of_line_next() && !self.are_over() {
            self.at += 1;
        }
        while !self.are_over() {
            if self.bit() == 1 {
                return true;
            }
        }
        false
    }

    /// Reads a run, in as many codes as it takes. A run that ends early has the length of the codes before.
    pub fn run(&mut self, is_black: bool, max: i32) -> (i32, Option<End>) {
        /// The first of the codes that another code must follow.
        const MORE: u16 = 64;
        let mut run = 0;
        loop {
            if self.are_over() {
                return (run, Some(End::Data));
            }
            if self.is_end_of_line_next() {
                return (run, Some(End::Line));
            }
            let code = if is_black { black::decode(self) } else { white::decode(self) };
            let Some(code) = code else { return (run, Some(End::Row)) };
            run += i32::from(code);
            if code < MORE || run > max {
                return (run, None);
            }
        }
    }
}
