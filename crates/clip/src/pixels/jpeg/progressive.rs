//! Blocks of progressive scans by Huffman codes: each scan has some bits of some coefficients.

use super::bits::Bits;
use super::block::{Block, NATURAL};
use super::entropy::Entropy;
use super::error::Result;
use super::frame::{Frame, Grid, Scan};
use super::huffman::Table;
use super::reader::Reader;
use super::sequential::{owners, table};

pub(super) struct Progressive {
    /// Of DC for each component of the scan, or the one of AC.
    tables: Vec<Table>,
    predictions: [i32; 4],
    owners: Vec<usize>,
    first: usize,
    last: usize,
    is_refined: bool,
    low: u8,
    bits: Bits,
    /// Blocks that follow without a coefficient of their own.
    ended: u32,
}

impl Progressive {
    pub fn new(reader: &Reader, frame: &Frame, scan: &Scan, grid: &Grid) -> Result<Self> {
        /// The largest size of a difference.
        const MAX_SIZE: u8 = 15;
        let of = |&component: &usize| {
            let (dc, ac) = frame.components[component].tables;
            if scan.first == 0 { table(&reader.tables.dc, dc, MAX_SIZE) } else { table(&reader.tables.ac, ac, u8::MAX) }
        };
        // Further bits of DC are not coded.
        let coded: &[usize] = if scan.first == 0 && scan.high != 0 { &[] } else { &scan.components };
        Ok(Self {
            tables: coded.iter().map(of).collect::<Result<_>>()?,
            predictions: [0; 4],
            owners: owners(grid),
            first: scan.first.into(),
            last: scan.last.into(),
            is_refined: scan.high != 0,
            low: scan.low,
            bits: Bits::default(),
            ended: 0,
        })
    }

    fn dc(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        for (block, &owner) in blocks.iter_mut().zip(&self.owners) {
            let size = self.bits.symbol(reader, &self.tables[owner])?;
            let difference = self.bits.value(reader, size.into())?;
            let prediction = &mut self.predictions[owner & 3];
            *prediction = prediction.checked_add(difference).ok_or("a coefficient is too large")?;
            block[0] = (*prediction << self.low) as i16;
        }
        Ok(())
    }

    fn refine_dc(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        for block in blocks {
            if self.bits.take(reader, 1)? != 0 {
                block[0] |= 1 << self.low;
            }
        }
        Ok(())
    }

    /// How many blocks end with this one.
    fn run(&mut self, reader: &mut Reader, size: u8) -> Result<u32> {
        let more = if size == 0 { 0 } else { self.bits.take(reader, size.into())? };
        Ok((1 << size) + more)
    }

    fn ac(&mut self, reader: &mut Reader, block: &mut Block) -> Result<()> {
        if self.ended > 0 {
            self.ended -= 1;
            return Ok(());
        }
        let mut place = self.first;
        while place <= self.last {
            let symbol = self.bits.symbol(reader, &self.tables[0])?;
            let (run, size) = (symbol >> 4, symbol & 15);
            if size != 0 {
                place += usize::from(run);
                let value = self.bits.value(reader, size.into())?;
                block[usize::from(NATURAL[place & 127])] = (value << self.low) as i16;
            } else if run == 15 {
                place += 15;
            } else {
                self.ended = self.run(reader, run)? - 1;
                break;
            }
            place += 1;
        }
        Ok(())
    }

    /// Returns one more bit of a coefficient that is not zero.
    fn refine(&mut self, reader: &mut Reader, coefficient: &mut i16) -> Result<()> {
        let bit = 1i16 << self.low;
        if self.bits.take(reader, 1)? != 0 && *coefficient & bit == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { bit } else { -bit });
        }
        Ok(())
    }

    fn refine_ac(&mut self, reader: &mut Reader, block: &mut Block) -> Result<()> {
        let mut place = self.first;
        while self.ended == 0 && place <= self.last {
            let symbol = self.bits.symbol(reader, &self.tables[0])?;
            let (mut run, size) = (symbol >> 4, symbol & 15);
            let mut new = 0i16;
            if size != 0 {
                let bit = 1 << self.low;
                new = if self.bits.take(reader, 1)? != 0 { bit } else { -bit };
            } else if run != 15 {
                self.ended = self.run(reader, run)?;
                break;
            }
            // Those that are zero are counted; the others get their bit on the way.
            while place <= self.last {
                let coefficient = &mut block[usize::from(NATURAL[place & 127])];
                if *coefficient != 0 {
                    self.refine(reader, coefficient)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                place += 1;
            }
            if new != 0 {
                block[usize::from(NATURAL[place & 127])] = new;
            }
            place += 1;
        }
        if self.ended > 0 {
            for place in place..=self.last {
                let coefficient = &mut block[usize::from(NATURAL[place & 127])];
                if *coefficient != 0 {
                    self.refine(reader, coefficient)?;
                }
            }
            self.ended -= 1;
        }
        Ok(())
    }
}

impl Entropy for Progressive {
    fn is_empty(&self) -> bool {
        self.bits.is_empty
    }

    fn restart(&mut self, reader: &mut Reader) -> Result<()> {
        (self.predictions, self.ended) = ([0; 4], 0);
        self.bits.restart(reader)
    }

    fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        match (self.first, self.is_refined) {
            (0, true) => self.refine_dc(reader, blocks),
            _ if self.bits.is_empty => Ok(()),
            (0, false) => self.dc(reader, blocks),
            (_, false) => self.ac(reader, &mut blocks[0]),
            (_, true) => self.refine_ac(reader, &mut blocks[0]),
        }
    }
}
