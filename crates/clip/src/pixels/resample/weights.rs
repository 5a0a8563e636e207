//! The weights of input samples, in fixed point.

use std::ops::Range;

use crate::error::Error;
use crate::memory::reserve;
use crate::recipe::Filter;

/// Fixed-point bits of a weight: 32 bits minus 8 of the sample and 2 of headroom, as in Pillow.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// One half in fixed point, for rounding.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The first input of each output sample, and the weights of its inputs.
pub(super) struct Weights {
    pub starts: Vec<u32>,
    /// Numbers of inputs, one per output sample.
    lengths: Vec<u32>,
    /// `stride` weights per output sample.
    weights: Vec<i32>,
    stride: usize,
}

impl Weights {
    pub fn new(from: u32, to: u64, (first, count): (u64, u32), filter: Filter) -> Result<Self, Error> {
        let outputs = count as usize;
        if u64::from(from) == to {
            let mut starts = reserve(outputs)?;
            starts.extend((0..count).map(|i| first as u32 + i));
            return Ok(Self {
                starts,
                lengths: vec![1; outputs],
                weights: vec![1 << PRECISION_BITS; outputs],
                stride: 1,
            });
        }
        let scale = f64::from(from) / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let stride = (support.ceil() as usize * 2 + 1).min(from as usize);
        let mut starts = reserve(outputs)?;
        let mut lengths = reserve(outputs)?;
        let mut weights: Vec<i32> = reserve(outputs.saturating_mul(stride))?;
        let mut row: Vec<f64> = reserve(stride)?;
        for output in first..first + u64::from(count) {
            let center = (output as f64 + 0.5) * scale;
            let start = ((center - support + 0.5) as i64).max(0);
            let end = ((center + support + 0.5) as i64).min(i64::from(from));
            row.clear();
            row.extend((start..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / filter_scale))));
            let sum: f64 = row.iter().sum();
            starts.push(start as u32);
            lengths.push(row.len() as u32);
            weights.extend(row.iter().map(|&w| fixed_point(if sum == 0.0 { w } else { w / sum })));
            weights.resize(starts.len() * stride, 0);
        }
        Ok(Self { starts, lengths, weights, stride })
    }

    /// Returns the range of the input samples that are needed.
    pub fn reach(&self) -> Range<u32> {
        let first = self.starts.first().copied().unwrap_or(0);
        let last = self.starts.iter().zip(&self.lengths).map(|(start, length)| start + length).max();
        first..last.unwrap_or(first)
    }

    /// Returns the first input and the weights of each output sample.
    pub fn outputs(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rows = self.weights.chunks_exact(self.stride.max(1));
        self.starts.iter().zip(&self.lengths).zip(rows).map(|((&start, &n), row)| (start as usize, &row[..n as usize]))
    }
}

/// Rounds half away from zero, as Pillow does.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// Returns the byte of a sum of weighted samples.
pub(super) fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
