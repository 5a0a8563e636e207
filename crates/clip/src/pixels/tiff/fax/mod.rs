//! Fax compression: Modified Huffman, Group 3 and Group 4.
//!
//! A row is a list of runs, white and black in turn, white first. Damaged rows end as they do in libtiff: in white.

mod bits;
mod runs;

use crate::pixels::tiff::error::{Result, SHORT};
use bits::{Bits, End};
use runs::Runs;

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
    /// Widest row, because runs take up to 16 bytes per pixel. No scanner is as wide.
    const MAX_WIDTH: u32 = 1 << 20;

    /// Fills `out` with rows of one bit per pixel. Black is one.
    pub(super) fn fill(self, chunk: &[u8], width: u32, row_bytes: usize, out: &mut [u8]) -> Result<()> {
        if width > Self::MAX_WIDTH {
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
            let mut runs = Runs::new(width);
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
            previous = runs.into_list();
        }
        Ok(())
    }
}
