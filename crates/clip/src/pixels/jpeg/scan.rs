//! Scans: what each of them decodes, block for block, and the order in which blocks are coded.

use super::Result;
use super::arithmetic::Arithmetic;
use super::frame::{Frame, Grid, Scan};
use super::markers::Reader;
use super::progressive::Progressive;
use super::sequential::Sequential;

/// Coefficients in their natural order, as they are stored.
pub(super) type Block = [i16; 64];

/// Decodes MCU after MCU.
pub(super) trait Entropy {
    /// Whether the data of the current segment ended too early.
    fn is_empty(&self) -> bool;
    /// Decodes into the blocks of an MCU: of a first scan they are zero.
    fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()>;
}

/// Checks a scan of blocks and prepares what decodes it.
pub(super) fn begin(reader: &Reader, frame: &mut Frame, scan: &Scan) -> Result<(Grid, Box<dyn Entropy>)> {
    for &component in &scan.components {
        frame.components[component].latch(&reader.tables.quantization)?;
    }
    let grid = frame.grid(scan)?;
    if frame.coding.progressive && !is_in_order(scan) {
        return Err("a scan has coefficients that it cannot have");
    }
    let entropy: Box<dyn Entropy> = match (frame.coding.arithmetic, frame.coding.progressive) {
        (true, _) => Box::new(Arithmetic::new(reader, frame, scan, &grid)),
        (false, true) => Box::new(Progressive::new(reader, frame, scan, &grid)?),
        (false, false) => Box::new(Sequential::new(reader, frame, scan, &grid)?),
    };
    Ok((grid, entropy))
}

fn is_in_order(scan: &Scan) -> bool {
    /// The most that a bit may be worth, as a power of two.
    const HIGHEST: u8 = 13;
    let is_band = match scan.first {
        0 => scan.last == 0,
        first => first <= scan.last && scan.last < 64 && scan.components.len() == 1,
    };
    is_band && (scan.high == 0 || scan.low + 1 == scan.high) && scan.low <= HIGHEST
}

/// What all scans together cost: each goes over all of its blocks, which a file of a kilobyte can ask for a hundred times, and
/// which cannot be stopped.
#[derive(Default)]
pub(super) struct Budget {
    pub scans: u32,
    samples: u64,
}

impl Budget {
    /// A few seconds. Encoders write about ten scans where they write several.
    const MOST_SAMPLES: u64 = 3 << 30;
    /// As many as there are bits of coefficients.
    const MOST_SCANS: u32 = 1000;
    /// Data of arithmetic coding can say much in few bytes: a sample costs as much as so many others.
    const ARITHMETIC: u64 = 16;

    pub fn spend(&mut self, frame: &Frame, scan: &Scan) -> Result<()> {
        let unit = if frame.coding.lossless { 1 } else { 64 };
        let weight = if frame.coding.arithmetic { Self::ARITHMETIC } else { 1 };
        let units = |&component: &usize| {
            let component = &frame.components[component];
            component.stored_columns as u64 * component.stored_rows as u64
        };
        self.samples += scan.components.iter().map(units).sum::<u64>() * unit * weight;
        self.scans += 1;
        if self.samples > Self::MOST_SAMPLES || self.scans > Self::MOST_SCANS {
            return Err("it has too many scans for its size");
        }
        Ok(())
    }
}
