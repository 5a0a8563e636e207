//! Tables that the segments of a JPEG define.

use super::huffman::Codes;

/// Tables that a scan takes as they are where it begins.
#[derive(Default)]
pub(super) struct Tables {
    pub quantization: [Option<[u16; 64]>; 4],
    pub dc: [Option<Codes>; 4],
    pub ac: [Option<Codes>; 4],
    /// Conditioning of arithmetic coding: bounds of small differences.
    pub dc_bounds: [(u8, u8); 16],
    pub ac_bound: [u8; 16],
    pub restart_interval: u16,
}

impl Tables {
    /// Restores the values at the beginning of a stream.
    pub fn reset(&mut self) {
        (self.dc_bounds, self.ac_bound, self.restart_interval) = ([(0, 1); 16], [5; 16], 0);
    }
}
