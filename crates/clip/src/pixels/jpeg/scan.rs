//! Scans: their checks, their decoders and their costs.

use super::arithmetic::Arithmetic;
use super::entropy::{Entropy, Mcus};
use super::error::Result;
use super::frame::{Frame, Grid, Scan};
use super::progressive::Progressive;
use super::reader::Reader;
use super::sequential::Sequential;

/// Checks a scan of blocks and prepares its decoder.
pub(super) fn begin(reader: &Reader, frame: &mut Frame, scan: &Scan) -> Result<(Grid, Mcus)> {
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
    let mcus = Mcus::new(reader, entropy);
    Ok((grid, mcus))
}

fn is_in_order(scan: &Scan) -> bool {
    /// The most that a bit may be worth, as a power of two.
    const MAX_LOW: u8 = 13;
    let is_band = match scan.first {
        0 => scan.last == 0,
        first => first <= scan.last && scan.last < 64 && scan.components.len() == 1,
    };
    is_band && (scan.high == 0 || scan.low + 1 == scan.high) && scan.low <= MAX_LOW
}

/// The cost of all scans together. Each scan visits all of its blocks and cannot be interrupted, and a file of a
/// kilobyte can ask for a hundred scans.
#[derive(Default)]
pub(super) struct Budget {
    pub scans: u32,
    samples: u64,
}

impl Budget {
    /// A few seconds. Encoders write about ten scans where they write several.
    const MAX_SAMPLES: u64 = 3 << 30;
    /// As many as there are bits of coefficients.
    const MAX_SCANS: u32 = 1000;
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
        if self.samples > Self::MAX_SAMPLES || self.scans > Self::MAX_SCANS {
            return Err("it has too many scans for its size");
        }
        Ok(())
    }
}
