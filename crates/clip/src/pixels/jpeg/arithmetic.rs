//! Blocks by arithmetic coding, sequential and progressive (ITU-T T.81, F.2.4 and G.1.3).

use super::block::{Block, NATURAL};
use super::entropy::Entropy;
use super::error::Result;
use super::frame::{Frame, Grid, Scan};
use super::probabilities::{Decisions, EVEN, Estimate};
use super::reader::Reader;
use super::sequential::owners;

pub(super) struct Arithmetic {
    /// Estimates, by the number of their table.
    dc: Vec<[Estimate; 64]>,
    ac: Vec<[Estimate; 256]>,
    /// Numbers of the tables of each component of the scan.
    tables: Vec<(u8, u8)>,
    dc_bounds: [(u8, u8); 16],
    ac_bound: [u8; 16],
    predictions: [i32; 4],
    /// The first estimates of each component, which depend on its previous difference.
    contexts: [usize; 4],
    owners: Vec<usize>,
    is_progressive: bool,
    first: usize,
    last: usize,
    is_refined: bool,
    low: u8,
    even: Estimate,
    decisions: Decisions,
}

impl Arithmetic {
    pub fn new(reader: &Reader, frame: &Frame, scan: &Scan, grid: &Grid) -> Self {
        let tables = &reader.tables;
        let is_progressive = frame.coding.progressive;
        Self {
            dc: vec![[0; 64]; 16],
            ac: vec![[0; 256]; 16],
            tables: scan.components.iter().map(|&component| frame.components[component].tables).collect(),
            dc_bounds: tables.dc_bounds,
            ac_bound: tables.ac_bound,
            predictions: [0; 4],
            contexts: [0; 4],
            owners: owners(grid),
            is_progressive,
            first: if is_progressive { scan.first.into() } else { 1 },
            last: if is_progressive { scan.last.into() } else { 63 },
            is_refined: is_progressive && scan.high != 0,
            low: if is_progressive { scan.low } else { 0 },
            even: EVEN,
            decisions: Decisions::new(),
        }
    }

    /// Returns the bits of a magnitude of which the category is known.
    fn magnitude(&mut self, reader: &mut Reader, estimate: &mut Estimate, category: i32) -> Result<i32> {
        let (mut value, mut bit) = (category, category >> 1);
        while bit != 0 {
            if self.decisions.decide(reader, estimate)? {
                value |= bit;
            }
            bit >>= 1;
        }
        Ok(value + 1)
    }

    fn damaged(&mut self) -> Result<()> {
        self.decisions.is_damaged = true;
        Ok(())
    }

    fn dc(&mut self, reader: &mut Reader, block: &mut Block, owner: usize) -> Result<()> {
        let table = usize::from(self.tables[owner].0);
        let mut estimates = self.dc[table];
        let context = self.contexts[owner];
        if !self.decisions.decide(reader, &mut estimates[context])? {
            self.contexts[owner] = 0;
        } else {
            let is_negative = self.decisions.decide(reader, &mut estimates[context + 1])?;
            let mut at = context + 2 + usize::from(is_negative);
            let mut category = i32::from(self.decisions.decide(reader, &mut estimates[at])?);
            if category != 0 {
                at = 20;
                while self.decisions.decide(reader, &mut estimates[at])? {
                    category <<= 1;
                    if category == 0x8000 {
                        self.dc[table] = estimates;
                        return self.damaged();
                    }
                    at += 1;
                }
            }
            let (lower, upper) = self.dc_bounds[table];
            let sign = usize::from(is_negative) * 4;
            self.contexts[owner] = match category {
                _ if category < (1 << lower) >> 1 => 0,
                _ if category > (1 << upper) >> 1 => 12 + sign,
                _ => 4 + sign,
            };
            let value = self.magnitude(reader, &mut estimates[at + 14], category)?;
            let difference = if is_negative { -value } else { value };
            self.predictions[owner] = (self.predictions[owner] + difference) & 0xffff;
        }
        self.dc[table] = estimates;
        block[0] = (self.predictions[owner] << self.low) as i16;
        Ok(())
    }

    fn ac(&mut self, reader: &mut Reader, block: &mut Block, owner: usize) -> Result<()> {
        let table = usize::from(self.tables[owner].1);
        let mut estimates = self.ac[table];
        let done = self.ac_with(reader, block, &mut estimates, self.ac_bound[table].into());
        self.ac[table] = estimates;
        done
    }

    fn ac_with(
        &mut self,
        reader: &mut Reader,
        block: &mut Block,
        estimates: &mut [Estimate; 256],
        bound: usize,
    ) -> Result<()> {
        let mut place = self.first;
        while place <= self.last {
            let mut at = 3 * (place - 1);
            if self.decisions.decide(reader, &mut estimates[at])? {
                break;
            }
            while !self.decisions.decide(reader, &mut estimates[at + 1])? {
                at += 3;
                place += 1;
                if place > self.last {
                    return self.damaged();
                }
            }
            let is_negative = self.decisions.decide(reader, &mut self.even)?;
            at += 2;
            let mut category = i32::from(self.decisions.decide(reader, &mut estimates[at])?);
            if category != 0 && self.decisions.decide(reader, &mut estimates[at])? {
                category = 2;
                at = if place <= bound { 189 } else { 217 };
                while self.decisions.decide(reader, &mut estimates[at])? {
                    category <<= 1;
                    if category == 0x8000 {
                        return self.damaged();
                    }
                    at += 1;
                }
            }
            let value = self.magnitude(reader, &mut estimates[at + 14], category)?;
            let value = if is_negative { -value } else { value };
            block[usize::from(NATURAL[place & 127])] = (value << self.low) as i16;
            place += 1;
        }
        Ok(())
    }

    fn refine_ac(&mut self, reader: &mut Reader, block: &mut Block) -> Result<()> {
        let table = usize::from(self.tables[0].1);
        let mut estimates = self.ac[table];
        let done = self.refine_ac_with(reader, block, &mut estimates);
        self.ac[table] = estimates;
        done
    }

    fn refine_ac_with(
        &mut self,
        reader: &mut Reader,
        block: &mut Block,
        estimates: &mut [Estimate; 256],
    ) -> Result<()> {
        let bit = 1i16 << self.low;
        // The end of the block in the previous scan.
        let ended = (1..=self.last).rev().find(|&place| block[usize::from(NATURAL[place & 127])] != 0).unwrap_or(0);
        let mut place = self.first;
        while place <= self.last {
            let mut at = 3 * (place - 1);
            if place > ended && self.decisions.decide(reader, &mut estimates[at])? {
                break;
            }
            loop {
                let coefficient = &mut block[usize::from(NATURAL[place & 127])];
                if *coefficient != 0 {
                    if self.decisions.decide(reader, &mut estimates[at + 2])? {
                        *coefficient = coefficient.wrapping_add(if *coefficient < 0 { -bit } else { bit });
                    }
                    break;
                }
                if self.decisions.decide(reader, &mut estimates[at + 1])? {
                    *coefficient = if self.decisions.decide(reader, &mut self.even)? { -bit } else { bit };
                    break;
                }
                at += 3;
                place += 1;
                if place > self.last {
                    return self.damaged();
                }
            }
            place += 1;
        }
        Ok(())
    }
}

impl Entropy for Arithmetic {
    fn is_empty(&self) -> bool {
        false
    }

    fn restart(&mut self, reader: &mut Reader) -> Result<()> {
        reader.restart()?;
        self.dc.fill([0; 64]);
        self.ac.fill([0; 256]);
        (self.predictions, self.contexts) = ([0; 4], [0; 4]);
        self.decisions = Decisions::new();
        Ok(())
    }

    fn decode(&mut self, reader: &mut Reader, blocks: &mut [Block]) -> Result<()> {
        if self.is_progressive && self.first == 0 && self.is_refined {
            for block in blocks {
                if self.decisions.decide(reader, &mut self.even)? {
                    block[0] |= 1 << self.low;
                }
            }
            return Ok(());
        }
        for (index, block) in blocks.iter_mut().enumerate() {
            if self.decisions.is_damaged {
                break;
            }
            let owner = self.owners[index];
            match (self.is_progressive, self.first, self.is_refined) {
                (true, 0, _) => self.dc(reader, block, owner)?,
                (true, _, true) => self.refine_ac(reader, block)?,
                (true, _, false) => self.ac(reader, block, owner)?,
                (false, ..) => {
                    self.dc(reader, block, owner)?;
                    if !self.decisions.is_damaged {
                        self.ac(reader, block, owner)?;
                    }
                }
            }
        }
        Ok(())
    }
}
