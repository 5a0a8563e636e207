//! Blocks of sequential scans by Huffman codes: each has all of its coefficients.

use super::bits::{Bits, Fast};
use super::block::{Block, NATURAL};
use super::entropy::Entropy;
use super::error::Result;
use super::frame::{Frame, Grid, Scan};
use super::huffman::{Codes, Table};
use super::reader::Reader;

pub(super) struct Sequential {
    /// For each component of the scan.
    tables: Vec<(Table, Table)>,
    predictions: [i32; 4],
    /// The component that each block of an MCU is of.
    owners: Vec<usize>,
    bits: Bits,
}

/// The largest size of a difference.
const MAX_SIZE: u8 = 15;

/// Puts the tables that Motion-JPEG leaves out where there are none.
pub(super) fn complete(reader: &mut Reader) {
    let [dc, ac] = Codes::standard();
    for (slots, standard) in [(&mut reader.tables.dc, dc), (&mut reader.tables.ac, ac)] {
        for (slot, codes) in slots.iter_mut().zip(standard) {
            slot.get_or_insert(codes);
        }
    }
}

pub(super) fn table(codes: &[Option<Codes>; 4], place: u8, max: u8) -> Result<Table> {
    Table::new(codes.get(usize::from(place)).and_then(Option::as_ref), max)
}

/// Returns the component, by its place in the scan, of each block of an MCU.
pub(super) fn owners(grid: &Grid) -> Vec<usize> {
    let parts = grid.parts.iter().enumerate();
    parts.flat_map(|(owner, part)| std::iter::repeat_n(owner, part.columns * part.rows)).collect()
}

impl Sequential {
    pub fn new(reader: &Reader, frame: &Frame, scan: &Scan, grid: &Grid) -> Result<Self> {
        let pair = |&component: &usize| {
            let (dc, ac) = frame.components[component].tables;
            let tables = &reader.tables;
            Ok((table(&tables.dc, dc, MAX_SIZE)?, table(&tables.ac, ac, u8::MAX)?.with_values()))
        };
        let tables = scan.components.iter().map(pair).collect::<Result<_>>()?;
        Ok(Self { tables, predictions: [0; 4], owners: owners(grid), bits: Bits::default() })
    }

    /// None where the MCU is near a marker or the end.
    fn fast(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Option<()> {
        let mut fast = Fast::new(&self.bits, reader, blocks.len())?;
        let mut predictions = self.predictions;
        for (block, &owner) in blocks.iter_mut().zip(&self.owners) {
            let (dc, ac) = &self.tables[owner];
            let prediction = &mut predictions[owner & 3];
            *prediction = prediction.wrapping_add(fast.difference(dc)?);
            block[0] = *prediction as i16;
            fast.coefficients(ac, block)?;
        }
        fast.end(&mut self.bits, reader);
        self.predictions = predictions;
        Some(())
    }

    fn careful(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        for (block, &owner) in blocks.iter_mut().zip(&self.owners) {
            let (dc, ac) = &self.tables[owner];
            let size = self.bits.symbol(reader, dc)?;
            let difference = self.bits.value(reader, size.into())?;
            let prediction = &mut self.predictions[owner & 3];
            *prediction = prediction.wrapping_add(difference);
            block[0] = *prediction as i16;
            let mut place = 1;
            while place < 64 {
                let symbol = self.bits.symbol(reader, ac)?;
                let (run, size) = (usize::from(symbol >> 4), symbol & 15);
                if size != 0 {
                    place += run;
                    block[usize::from(NATURAL[place & 127])] = self.bits.value(reader, size.into())? as i16;
                } else if run == 15 {
                    place += 15;
                } else {
                    break;
                }
                place += 1;
            }
        }
        Ok(())
    }
}

impl Entropy for Sequential {
    fn is_empty(&self) -> bool {
        self.bits.is_empty
    }

    fn restart(&mut self, reader: &mut Reader) -> Result<()> {
        self.predictions = [0; 4];
        self.bits.restart(reader)
    }

    fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        if !self.bits.is_empty && self.fast(reader, blocks).is_none() {
            self.careful(reader, blocks)?;
        }
        Ok(())
    }
}
