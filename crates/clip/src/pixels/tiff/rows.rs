//! The rows of a chunk: from stored bits to samples, and to RGB.

use crate::pixels::tiff::color::Color;
use crate::pixels::tiff::page::Page;

impl Page<'_> {
    /// Turns differences from the left neighbor into samples.
    pub(super) fn add_up(&self, row: &mut [u8]) {
        let samples = if self.is_planar { 1 } else { self.samples as usize };
        let (bytes, is_little_endian) = (self.bits as usize / 8, self.chunks.file.is_little_endian());
        for at in (samples * bytes..row.len()).step_by(bytes) {
            let left = at - samples * bytes;
            if bytes == 1 {
                row[at] = row[at].wrapping_add(row[left]);
                continue;
            }
            let [left, own] = [left, at].map(|at| [row[at], row[at + 1]]);
            let sum = match is_little_endian {
                true => u16::from_le_bytes(left).wrapping_add(u16::from_le_bytes(own)).to_le_bytes(),
                false => u16::from_be_bytes(left).wrapping_add(u16::from_be_bytes(own)).to_be_bytes(),
            };
            row[at..at + 2].copy_from_slice(&sum);
        }
    }

    /// Converts a row of a chunk to RGB, as far as it is in the image. The memory of `samples` is used again for each
    /// row.
    pub(super) fn convert(&self, rows: &[u8], row: usize, samples: &mut Vec<u8>, rgb: &mut [u8]) {
        let pixels = rgb.len() / 3;
        let (row_bytes, shared_by) = self.row_bytes();
        let start = row / shared_by as usize * row_bytes as usize;
        let of_plane = |plane: &[u8]| start..plane.len().min(start + row_bytes as usize);
        if self.is_planar {
            let planes = self.color.samples();
            samples.resize(pixels * planes, 0);
            for (number, plane) in rows.chunks_exact(rows.len() / planes).enumerate() {
                let places = samples[number..].iter_mut().step_by(planes);
                self.unpack(&plane[of_plane(plane)], places);
            }
            return self.color.convert(samples, planes, rgb);
        }
        let stored = &rows[of_plane(rows)];
        let count = self.samples as usize;
        match &self.color {
            Color::YCbCr(ycbcr) => {
                samples.resize(pixels * 3, 0);
                ycbcr.pick(stored, row, samples);
                self.color.convert(samples, 3, rgb);
            }
            _ if self.bits == 8 => self.color.convert(&stored[..pixels * count], count, rgb),
            _ => {
                samples.resize(pixels * count, 0);
                self.unpack(stored, samples.iter_mut());
                self.color.convert(samples, count, rgb);
            }
        }
    }

    /// Unpacks samples of any depth to bytes. Depths of more than eight bits keep their high byte.
    fn unpack<'b>(&self, stored: &[u8], samples: impl Iterator<Item = &'b mut u8>) {
        let bits = self.bits as usize;
        let scale = self.color.scale(self.bits);
        let high_byte = usize::from(self.chunks.file.is_little_endian());
        for (sample, at) in samples.zip((0..).step_by(bits)) {
            let byte = |offset: usize| stored.get(at / 8 + offset).copied().unwrap_or(0);
            *sample = match bits {
                8 => byte(0),
                16 => byte(high_byte),
                12 if at % 8 == 0 => byte(0),
                12 => byte(0) << 4 | byte(1) >> 4,
                _ => (byte(0) << (at % 8) >> (8 - bits)) * scale,
            };
        }
    }
}
