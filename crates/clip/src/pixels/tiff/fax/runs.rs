//! The rows of a fax as runs. External crate: `fax`, for the codes of modes.

use fax::BitReader;
use fax::maps::{Mode, mode};

use super::bits::{Bits, End};
use crate::pixels::tiff::error::{BROKEN, Result};

/// The runs of a row while it is read. Together with the `pending` pixels they end at `at`.
pub(super) struct Runs {
    width: i32,
    at: i32,
    pending: i32,
    list: Vec<i32>,
}

impl Runs {
    pub fn new(width: i32) -> Self {
        Self { width, at: 0, pending: 0, list: Vec::new() }
    }

    pub fn into_list(self) -> Vec<i32> {
        self.list
    }

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

    /// Reads a run of the color whose turn it is.
    fn read_run(&mut self, bits: &mut Bits) -> Result<Option<End>> {
        let (run, end) = bits.run(self.is_black(), self.width);
        match end {
            None => self.end_run(run)?,
            Some(_) => (self.at, self.pending) = (self.at + run, self.pending + run),
        }
        Ok(end)
    }

    pub fn read_1d(&mut self, bits: &mut Bits) -> Result<End> {
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
    pub fn read_2d(&mut self, bits: &mut Bits, previous: &[i32]) -> Result<End> {
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

    /// Completes the runs to the width. Missing pixels are white, and a run that is too long is dropped.
    pub fn finish(&mut self) {
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

    pub fn paint(&self, row: &mut [u8]) {
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

/// The row above: the place of its next change of color, and the runs that follow.
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

    /// Moves on to the first change of the same color to the right of `at`.
    fn pass(&mut self, at: i32, width: i32) {
        while self.change <= at && self.change < width && self.next < self.runs.len() {
            self.step();
            self.step();
        }
    }
}
