//! Fax compression: Modified Huffman, Group 3 and Group 4. External crate: `fax`, for the tables of codes.
//!
//! A row is a list of runs, white and black in turn, white first. Damaged rows end as they do in libtiff: in white.

use std::convert::Infallible;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

use crate::pixels::tiff::Result;
use crate::pixels::tiff::compression::{BROKEN, SHORT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pixels) enum Fax {
    /// Rows begin at a multiple of so many bits.
    Rle {
        aligned_to: usize,
    },
    Group3 {
        is_2d: bool,
    },
    Group4,
}

impl Fax {
    /// Runs take memory, up to that of 16 bytes a pixel. No scanner is as wide.
    const WIDEST: u32 = 1 << 20;

    /// Fills `out` with rows, a bit a pixel: black is one.
    pub(super) fn fill(self, chunk: &[u8], width: u32, row_bytes: usize, out: &mut [u8]) -> Result<()> {
        if width > Self::WIDEST {
            return Err("it is too wide for its compression");
        }
        let width = width as i32;
        let mut bits = Bits { bytes: chunk, at: 0 };
        let has_ends_of_lines = matches!(self, Self::Group3 { .. }) && Bits { ..bits }.pass_end_of_line();
        let mut previous = vec![width];
        out.fill(0);
        for (number, row) in out.chunks_exact_mut(row_bytes).enumerate() {
            if has_ends_of_lines && !bits.pass_end_of_line() {
                return Err(SHORT);
            }
            let is_2d = match self {
                Self::Rle { .. } => false,
                Self::Group3 { is_2d } => is_2d && bits.bit() == 0,
                Self::Group4 => true,
            };
            let mut runs = Runs { width, at: 0, pending: 0, list: Vec::new() };
            let end = if is_2d { runs.read_2d(&mut bits, &previous)? } else { runs.read_1d(&mut bits)? };
            runs.finish();
            runs.paint(row);
            match (self, end) {
                // The rows that follow are white.
                (Self::Group4, End::Line | End::Data) if number > 0 => return Ok(()),
                (Self::Group4, End::Line | End::Data) | (_, End::Data) => return Err(SHORT),
                _ => {}
            }
            if let Self::Rle { aligned_to } = self {
                bits.at = bits.at.next_multiple_of(aligned_to);
            }
            previous = runs.list;
        }
        Ok(())
    }
}

/// Why a row is over: it has all its pixels, or what follows is no code; or the line or the data is at its end.
#[derive(Clone, Copy)]
enum End {
    Row,
    Line,
    Data,
}

/// Bits from the highest on. Zeros follow the last.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    /// No more than 16 bits are asked for.
    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |offset: usize| u64::from(self.bytes.get(self.at / 8 + offset).copied().unwrap_or(0));
        let word = (byte(0) << 16 | byte(1) << 8 | byte(2)) << (self.at % 8) & 0xff_ffff;
        Some((word >> (24 - u32::from(bits.min(16)))) as u16)
    }

    fn consume(&mut self, bits: u8) -> std::result::Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.next_multiple_of(8) - self.at) as u8
    }
}

impl Bits<'_> {
    fn are_over(&self) -> bool {
        self.at >= 8 * self.bytes.len()
    }

    fn bit(&mut self) -> u16 {
        let bit = self.peek(1).unwrap_or(0);
        self.at += 1;
        bit
    }

    /// An end of a line begins with eleven zeros, which no code has.
    fn is_end_of_line_next(&self) -> bool {
        self.peek(11) == Some(0)
    }

    /// Moves behind the next end of a line: zeros, and a one. Returns whether there is one.
    fn pass_end_of_line(&mut self) -> bool {
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
    fn run(&mut self, is_black: bool, most: i32) -> (i32, Option<End>) {
        /// The first code that another must follow.
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
            if code < MORE || run > most {
                return (run, None);
            }
        }
    }
}

/// The runs of a row, while it is read: they come to `at` with the pixels of the run that is `pending`.
struct Runs {
    width: i32,
    at: i32,
    pending: i32,
    list: Vec<i32>,
}

impl Runs {
    /// Adds so many pixels to the pending run, and ends it.
    fn end_run(&mut self, pixels: i32) -> Result<()> {
        if self.list.len() > 2 * self.width as usize + 64 {
            return Err(BROKEN);
        }
        self.list.push(self.pending + pixels);
        self.at += pixels;
        self.pending = 0;
        Ok(())
    }

    fn is_black(&self) -> bool {
        self.list.len() % 2 == 1
    }

    /// Reads a run of the colour whose turn it is.
    fn read_run(&mut self, bits: &mut Bits) -> Result<Option<End>> {
        let (run, end) = bits.run(self.is_black(), self.width);
        match end {
            None => self.end_run(run)?,
            Some(_) => (self.at, self.pending) = (self.at + run, self.pending + run),
        }
        Ok(end)
    }

    fn read_1d(&mut self, bits: &mut Bits) -> Result<End> {
        while self.at < self.width {
            if let Some(end) = self.read_run(bits)? {
                return Ok(end);
            }
            if self.list.ends_with(&[0, 0]) && !self.is_black() {
                self.list.truncate(self.list.len() - 2);
            }
        }
        Ok(End::Row)
    }

    /// Reads a row by its differences from the previous one.
    fn read_2d(&mut self, bits: &mut Bits, previous: &[i32]) -> Result<End> {
        let mut above = Above { runs: previous, next: 0, change: 0 };
        above.step();
        while self.at < self.width {
            if bits.are_over() {
                return Ok(End::Data);
            }
            /// The first zeros of an end of a line, which no mode has.
            const ZEROS: u8 = 7;
            if bits.peek(ZEROS) == Some(0) {
                return Ok(End::Line);
            }
            let Some(mode) = mode::decode(bits) else { return Ok(End::Row) };
            if !matches!(mode, Mode::Horizontal) && !self.list.is_empty() {
                above.pass(self.at, self.width);
            }
            match mode {
                Mode::Pass => {
                    above.step();
                    (self.pending, self.at) = (self.pending + above.change - self.at, above.change);
                    above.step();
                }
                Mode::Horizontal => {
                    for _ in 0..2 {
                        if let Some(end) = self.read_run(bits)? {
                            return Ok(end);
                        }
                    }
                    above.pass(self.at, self.width);
                }
                Mode::Vertical(shift) => {
                    let to = above.change + i32::from(shift);
                    if to < self.at {
                        return Ok(End::Row);
                    }
                    self.end_run(to - self.at)?;
                    if shift < 0 { above.step_back() } else { above.step() }
                }
                Mode::Extension | Mode::EOF => return Ok(End::Row),
            }
        }
        Ok(End::Row)
    }

    /// Makes the runs come to the width: what is missing is white, and a run that is too long is left out.
    fn finish(&mut self) {
        if self.pending > 0 {
            self.list.push(self.pending);
        }
        while self.at > self.width
            && let Some(run) = self.list.pop()
        {
            self.at -= run;
        }
        if self.at < self.width {
            if self.is_black() {
                self.list.push(0);
            }
            self.list.push(self.width - self.at.max(0));
        }
    }

    fn paint(&self, row: &mut [u8]) {
        let mut from = 0;
        for (number, run) in self.list.iter().enumerate() {
            let to = (from + run.max(&0)).min(self.width);
            if number % 2 == 1 {
                blacken(row, from as usize, to as usize);
            }
            from = to;
        }
    }
}

/// Sets the bits of a row from one place to another.
fn blacken(row: &mut [u8], from: usize, to: usize) {
    if from == to {
        return;
    }
    let (first, last) = (from / 8, (to - 1) / 8);
    let (head, tail) = (0xff >> (from % 8), 0xff_u8 << (7 - (to - 1) % 8));
    if first == last {
        row[first] |= head & tail;
        return;
    }
    row[first] |= head;
    row[first + 1..last].fill(0xff);
    row[last] |= tail;
}

/// The row above: where its colour changes next, and the runs that follow.
struct Above<'a> {
    runs: &'a [i32],
    next: usize,
    change: i32,
}

impl Above<'_> {
    fn step(&mut self) {
        self.change += self.runs.get(self.next).copied().unwrap_or(0);
        self.next += 1;
    }

    fn step_back(&mut self) {
        self.next = self.next.saturating_sub(1);
        self.change -= self.runs.get(self.next).copied().unwrap_or(0);
    }

    /// Moves on to the first change of the same colour to the right of `at`.
    fn pass(&mut self, at: i32, width: i32) {
        while self.change <= at && self.change < width && self.next < self.runs.len() {
            self.step();
            self.step();
        }
    }
}
