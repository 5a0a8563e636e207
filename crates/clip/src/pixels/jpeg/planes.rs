//! Samples of the components: of two rows of MCUs, the current one and the one before, or of a whole image.

use super::block::{Block, Steps};
use super::error::{Result, reserve};
use super::frame::Frame;
use super::idct::idct;

pub(super) struct Planes(pub Vec<Plane>);

pub(super) struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// The first row that is kept.
    first: usize,
    /// Rows in a row of MCUs.
    depth: usize,
    pub width: usize,
    pub height: usize,
}

impl Planes {
    /// Returns planes for two rows of MCUs, or for the whole image if it is lossless.
    pub fn new(frame: &Frame) -> Result<Self> {
        let mut planes = Vec::with_capacity(frame.components.len());
        for component in &frame.components {
            let (unit, depth) =
                if frame.coding.lossless { (1, component.stored_rows) } else { (8, 2 * 8 * component.vertical) };
            let stride = component.stored_columns * unit;
            let mut samples = reserve(stride * depth)?;
            samples.resize(stride * depth, 0);
            let (width, height) = (component.width, component.height);
            planes.push(Plane { samples, stride, first: 0, depth: 8 * component.vertical, width, height });
        }
        Ok(Self(planes))
    }

    /// Returns the bytes of all planes.
    pub fn bytes(frame: &Frame) -> u64 {
        frame.row_bytes() * if frame.coding.lossless { frame.mcu_rows as u64 } else { 2 }
    }

    /// Makes room for a row of MCUs.
    pub fn advance(&mut self, mcu_row: usize) {
        if mcu_row > 1 {
            for plane in &mut self.0 {
                plane.samples.copy_within(plane.depth * plane.stride.., 0);
                plane.first = (mcu_row - 1) * plane.depth;
            }
        }
    }

    pub fn put(&mut self, index: usize, row: usize, column: usize, steps: &Steps, block: &Block) {
        let plane = &mut self.0[index];
        let at = (row * 8 - plane.first) * plane.stride + column * 8;
        let rows = plane.samples[at..].chunks_mut(plane.stride);
        for (row, samples) in rows.zip(idct(block, steps)) {
            row[..8].copy_from_slice(&samples);
        }
    }
}

impl Plane {
    pub fn row(&self, row: usize) -> &[u8] {
        &self.samples[(row - self.first) * self.stride..][..self.width]
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.samples[(row - self.first) * self.stride..][..self.stride]
    }
}
