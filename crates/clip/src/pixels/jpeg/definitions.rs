//! Segments that define tables.

use super::block::NATURAL;
use super::error::{Result, TRUNCATED};
use super::huffman::Codes;
use super::reader::Reader;

impl Reader<'_> {
    pub fn huffman(&mut self) -> Result<()> {
        const WRONG: &str = "a Huffman table is not valid";
        let mut length = self.length()?;
        while length > 16 {
            let (place, counts) = (self.byte()?, self.take::<16>()?);
            let count: usize = counts.iter().map(|&count| usize::from(count)).sum();
            length = length.checked_sub(17 + count).filter(|_| count <= 256).ok_or(WRONG)?;
            let values = self.bytes.get(self.at..self.at + count).ok_or(TRUNCATED)?;
            self.at += count;
            let kind = if place & 0x10 == 0 { &mut self.tables.dc } else { &mut self.tables.ac };
            *kind.get_mut(usize::from(place & !0x10)).ok_or(WRONG)? = Some(Codes::new(counts, values));
        }
        if length == 0 { Ok(()) } else { Err(WRONG) }
    }

    pub fn quantization(&mut self) -> Result<()> {
        const WRONG: &str = "a quantization table is not valid";
        let mut length = self.length()?;
        while length > 0 {
            let kind = self.byte()?;
            let is_wide = kind >> 4 != 0;
            let mut table = [0; 64];
            if kind & 15 > 3 {
                return Err(WRONG);
            }
            for &place in &NATURAL[..64] {
                table[usize::from(place)] = if is_wide { self.word()? } else { self.byte()?.into() };
            }
            self.tables.quantization[usize::from(kind & 3)] = Some(table);
            length = length.checked_sub(if is_wide { 129 } else { 65 }).ok_or(WRONG)?;
        }
        Ok(())
    }

    pub fn conditioning(&mut self) -> Result<()> {
        const WRONG: &str = "its conditioning is not valid";
        let mut length = self.length()?;
        while length > 0 {
            let [place, value] = self.take()?;
            match usize::from(place) {
                0..16 if value & 15 > value >> 4 => return Err(WRONG),
                place @ 0..16 => self.tables.dc_bounds[place] = (value & 15, value >> 4),
                place @ 16..32 => self.tables.ac_bound[place - 16] = value,
                _ => return Err(WRONG),
            }
            length = length.checked_sub(2).ok_or(WRONG)?;
        }
        Ok(())
    }

    pub fn interval(&mut self) -> Result<()> {
        if self.length()? != 2 {
            return Err("the length of its restart interval is wrong");
        }
        self.tables.restart_interval = self.word()?;
        Ok(())
    }
}
