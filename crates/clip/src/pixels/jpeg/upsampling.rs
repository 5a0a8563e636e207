//! Components of fewer samples, brought to the size of the image: as libjpeg does, between the samples where the factor
//! is two, and by repeating them where it is another.

use super::error::{Result, reserve};
use super::frame::{Component, Frame};
use super::planes::Plane;

enum Method {
    /// There are as many as pixels.
    Whole,
    /// Three quarters of a sample and a quarter of its neighbour, at the side, above or below, or both.
    Between {
        wide: bool,
        tall: bool,
    },
    Repeat {
        wide: usize,
        tall: usize,
    },
}

pub(super) struct Upsampling {
    method: Method,
    row: Vec<u8>,
    /// Sums of two rows, with one more at each end.
    sums: Vec<u16>,
    /// The row of the component that was repeated last.
    repeated: Option<usize>,
}

impl Upsampling {
    pub fn new(frame: &Frame, component: &Component) -> Result<Self> {
        let (wide, tall) = (frame.horizontal / component.horizontal, frame.vertical / component.vertical);
        // Too narrow for neighbours on both sides.
        let is_narrow = component.width <= 2 || frame.coding.lossless;
        let method = match (wide, tall) {
            (1, 1) => Method::Whole,
            (2, 1 | 2) if !is_narrow => Method::Between { wide: true, tall: tall == 2 },
            (1, 2) if !frame.coding.lossless => Method::Between { wide: false, tall: true },
            _ => Method::Repeat { wide, tall },
        };
        let (mut row, mut sums) = (reserve(component.width * wide)?, reserve(component.width + 2)?);
        row.resize(component.width * wide, 0);
        sums.resize(component.width + 2, 0);
        Ok(Self { method, row, sums, repeated: None })
    }

    /// Returns the samples of a row of the image.
    #[inline(always)]
    pub fn row<'a>(&'a mut self, plane: &'a Plane, row: usize) -> &'a [u8] {
        match self.method {
            Method::Whole => return plane.row(row),
            Method::Repeat { wide, tall } => {
                if self.repeated != Some(row / tall) {
                    for (pixels, &sample) in self.row.chunks_exact_mut(wide).zip(plane.row(row / tall)) {
                        pixels.fill(sample);
                    }
                    self.repeated = Some(row / tall);
                }
            }
            Method::Between { wide: true, tall: false } => {
                for (sum, &sample) in self.sums[1..].iter_mut().zip(plane.row(row)) {
                    *sum = sample.into();
                }
                between::<2, 1, 2>(&mut self.sums, &mut self.row);
            }
            Method::Between { wide: true, tall: true } => {
                let (near, far) = neighbours(plane, row);
                for (sum, (&near, &far)) in self.sums[1..].iter_mut().zip(near.iter().zip(far)) {
                    *sum = u16::from(near) * 3 + u16::from(far);
                }
                between::<4, 8, 7>(&mut self.sums, &mut self.row);
            }
            Method::Between { wide: false, .. } => {
                let (near, far) = neighbours(plane, row);
                let round = if row.is_multiple_of(2) { 1 } else { 2 };
                for (pixel, (&near, &far)) in self.row.iter_mut().zip(near.iter().zip(far)) {
                    *pixel = ((u16::from(near) * 3 + u16::from(far) + round) >> 2) as u8;
                }
            }
        }
        &self.row
    }
}

/// Returns the row of a component that a row of the image is in, and the next one to it.
fn neighbours(plane: &Plane, row: usize) -> (&[u8], &[u8]) {
    let near = row / 2;
    let far = if row.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(plane.height - 1) };
    (plane.row(near), plane.row(far))
}

/// Returns two pixels for each sum but the first and last.
#[inline(always)]
fn between<const BITS: u16, const LEFT: u16, const RIGHT: u16>(sums: &mut [u16], row: &mut [u8]) {
    let last = sums.len() - 1;
    sums[0] = sums[1];
    sums[last] = sums[last - 1];
    let (before, after) = (&sums[..last - 1], &sums[2..]);
    for (pixels, ((&before, &sum), &after)) in row.chunks_exact_mut(2).zip(before.iter().zip(&sums[1..]).zip(after)) {
        pixels[0] = (sum.wrapping_mul(3).wrapping_add(before).wrapping_add(LEFT) >> BITS) as u8;
        pixels[1] = (sum.wrapping_mul(3).wrapping_add(after).wrapping_add(RIGHT) >> BITS) as u8;
    }
}
