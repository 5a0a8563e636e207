//! Entropy-coded data: MCUs in intervals between restart markers.

use super::block::Block;
use super::error::Result;
use super::reader::Reader;

/// Decodes MCU after MCU.
pub(super) trait Entropy {
    /// Returns true if the data of the current interval ended too early.
    fn is_empty(&self) -> bool;
    /// Begins an interval after its restart marker.
    fn restart(&mut self, reader: &mut Reader) -> Result<()>;
    /// Decodes into the blocks of an MCU. The blocks of a first scan are zero.
    fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()>;
}

/// Counts the units between restart markers: MCUs, or rows of a lossless image.
pub(super) struct Interval {
    /// Zero without restart markers.
    length: usize,
    /// Units up to the next marker.
    due: usize,
}

impl Interval {
    pub fn new(length: usize) -> Self {
        Self { length, due: length }
    }

    /// Counts a unit. Returns true if a restart marker stands in front of it.
    #[inline(always)]
    pub fn next(&mut self) -> bool {
        if self.length == 0 {
            return false;
        }
        let restarts = self.due == 0;
        if restarts {
            self.due = self.length;
        }
        self.due -= 1;
        restarts
    }
}

/// The MCUs of a scan.
pub(super) struct Mcus {
    entropy: Box<dyn Entropy>,
    interval: Interval,
}

impl Mcus {
    pub fn new(reader: &Reader, entropy: Box<dyn Entropy>) -> Self {
        Self { entropy, interval: Interval::new(reader.tables.restart_interval.into()) }
    }

    pub fn is_empty(&self) -> bool {
        self.entropy.is_empty()
    }

    /// Decodes into the blocks of the next MCU.
    pub fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        if self.interval.next() {
            self.entropy.restart(reader)?;
        }
        self.entropy.decode(reader, blocks)
    }
}
