//! Lossless images (ITU-T T.81, annex H): each sample is a difference from its neighbors.

use super::bits::Bits;
use super::entropy::Interval;
use super::error::{NO_FRAME, Result, reserve};
use super::frame::{Component, Frame, Grid, Scan};
use super::huffman::Table;
use super::markers::Next;
use super::planes::{Plane, Planes};
use super::reader::Reader;
use super::scan::Budget;
use super::sequential::table;

/// Largest size of a difference. This size has no additional bits.
const MAX_SIZE: u8 = 16;

/// Reads the only scan, or all up to the end.
pub(super) fn read(reader: &mut Reader, slot: &mut Option<Frame>, first: Scan, planes: &mut Planes) -> Result<()> {
    let mut budget = Budget::default();
    let mut scan = first;
    let is_one = slot.as_ref().is_some_and(|frame| frame.components.len() == scan.components.len());
    loop {
        let frame = slot.as_ref().ok_or(NO_FRAME)?;
        budget.spend(frame, &scan)?;
        read_scan(reader, frame, &scan, planes)?;
        if is_one {
            return Ok(());
        }
        match reader.read(slot)? {
            Next::Scan(next) => scan = next,
            Next::End => return Ok(()),
        }
    }
}

fn read_scan(reader: &mut Reader, frame: &Frame, scan: &Scan, planes: &mut Planes) -> Result<()> {
    if !(1..=7).contains(&scan.first) || scan.last != 0 || scan.high != 0 || scan.low >= 8 {
        return Err("its predictor is not valid");
    }
    let grid = frame.grid(scan)?;
    let interval = usize::from(reader.tables.restart_interval);
    if interval % grid.columns != 0 {
        return Err("its restart interval is no multiple of a row");
    }
    let tables = scan
        .components
        .iter()
        .map(|&component| table(&reader.tables.dc, frame.components[component].tables.0, MAX_SIZE));
    let tables: Vec<Table> = tables.collect::<Result<_>>()?;
    let mut rows = Vec::with_capacity(grid.parts.len());
    for part in &grid.parts {
        rows.push(Rows::new(&frame.components[part.component], scan)?);
    }
    let mut interval = Interval::new(interval / grid.columns);
    let mut bits = Bits::default();
    for mcu_row in 0..frame.mcu_rows {
        for row in 0..grid.rows(frame, mcu_row) {
            if interval.next() {
                bits.restart(reader)?;
                rows.iter_mut().for_each(Rows::restart);
            }
            differences(reader, &grid, &tables, &mut bits, &mut rows, row)?;
        }
        for (part, rows) in grid.parts.iter().zip(&mut rows) {
            let component = &frame.components[part.component];
            let first = mcu_row * component.vertical;
            for row in first..(first + component.vertical).min(component.rows) {
                rows.finish(row - first, &mut planes.0[part.component], row);
            }
        }
    }
    Ok(())
}

/// Reads the differences of a row of MCUs.
fn differences(
    reader: &mut Reader,
    grid: &Grid,
    tables: &[Table],
    bits: &mut Bits,
    rows: &mut [Rows],
    row: usize,
) -> Result<()> {
    if bits.is_empty {
        for (part, rows) in grid.parts.iter().zip(rows.iter_mut()) {
            rows.differences[row * rows.stride..(row + part.rows) * rows.stride].fill(0);
            rows.restart();
        }
        return Ok(());
    }
    for column in 0..grid.columns {
        for ((part, table), rows) in grid.parts.iter().zip(tables).zip(rows.iter_mut()) {
            for y in row..row + part.rows {
                for x in column * part.columns..(column + 1) * part.columns {
                    let difference = match bits.symbol(reader, table)? {
                        MAX_SIZE => 32_768,
                        size => bits.value(reader, size.into())?,
                    };
                    rows.differences[y * rows.stride + x] = difference;
                }
            }
        }
    }
    Ok(())
}

/// Rows of a component in a row of MCUs.
struct Rows {
    differences: Vec<i32>,
    stride: usize,
    width: usize,
    /// The previous row.
    previous: Vec<i32>,
    is_first: bool,
    predictor: u8,
    shift: u8,
}

impl Rows {
    fn new(component: &Component, scan: &Scan) -> Result<Self> {
        let (stride, rows) = (component.stored_columns, component.vertical);
        let (mut differences, mut previous) = (reserve(stride * rows)?, reserve(stride)?);
        differences.resize(stride * rows, 0);
        previous.resize(stride, 0);
        let (width, predictor, shift) = (component.columns, scan.first, scan.low);
        Ok(Self { differences, stride, width, previous, is_first: true, predictor, shift })
    }

    /// Begins without a previous row.
    fn restart(&mut self) {
        self.is_first = true;
    }

    /// Makes samples of a row of differences.
    fn finish(&mut self, index: usize, plane: &mut Plane, row: usize) {
        let differences = &self.differences[index * self.stride..][..self.width];
        let mut left = if self.is_first { 1 << (7 - self.shift) } else { self.previous[0] };
        let mut corner = self.previous[0];
        for (x, (&difference, sample)) in differences.iter().zip(plane.row_mut(row)).enumerate() {
            let above = self.previous[x];
            let predicted = match self.predictor {
                _ if x == 0 => left,
                _ if self.is_first => left,
                1 => left,
                2 => above,
                3 => corner,
                4 => left + above - corner,
                5 => left + ((above - corner) >> 1),
                6 => above + ((left - corner) >> 1),
                _ => (left + above) >> 1,
            };
            left = (difference + predicted) & 0xffff;
            corner = above;
            self.previous[x] = left;
            *sample = (left << self.shift) as u8;
        }
        self.is_first = false;
    }
}
