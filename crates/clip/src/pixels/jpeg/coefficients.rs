//! Coefficients of an image in several scans, which are all read before the first sample can be made.

use super::block::{Block, Steps};
use super::error::{NO_FRAME, Result, reserve};
use super::frame::{Frame, Scan};
use super::markers::Next;
use super::planes::Planes;
use super::reader::Reader;
use super::scan::{self, Budget};
use super::smoothing::{self, Known};

pub(super) struct Coefficients {
    /// For each component, rows of blocks.
    blocks: Vec<Vec<Block>>,
    steps: Vec<Steps>,
    known: Vec<Known>,
    /// The bits that were known before the last scan of each component.
    known_before: Vec<Known>,
    /// The last row of MCUs that the data reached.
    last_good_row: usize,
    is_smoothed: bool,
}

impl Coefficients {
    /// Returns the bytes of all coefficients.
    pub fn bytes(frame: &Frame) -> u64 {
        frame.units() * size_of::<Block>() as u64
    }

    /// Reads all scans, up to the end of the image.
    pub fn read(reader: &mut Reader, slot: &mut Option<Frame>, first: Scan) -> Result<Self> {
        let frame = slot.as_ref().ok_or(NO_FRAME)?;
        let mut blocks = Vec::with_capacity(frame.components.len());
        for component in &frame.components {
            let count = component.stored_columns * component.stored_rows;
            let mut plane = reserve(count)?;
            plane.resize(count, [0; 64]);
            blocks.push(plane);
        }
        let nothing = vec![smoothing::UNKNOWN; blocks.len()];
        let (known, known_before) = (nothing.clone(), nothing);
        let mut all = Self { blocks, steps: Vec::new(), known, known_before, last_good_row: 0, is_smoothed: false };
        let mut budget = Budget::default();
        let mut scan = first;
        loop {
            let frame = slot.as_mut().ok_or(NO_FRAME)?;
            budget.spend(frame, &scan)?;
            all.scan(reader, frame, &scan, budget.scans)?;
            match reader.read(slot)? {
                Next::Scan(next) => scan = next,
                Next::End => break,
            }
        }
        let frame = slot.as_ref().ok_or(NO_FRAME)?;
        if budget.scans == 1 {
            all.known_before.fill(smoothing::UNKNOWN);
        }
        all.is_smoothed = frame.coding.progressive && smoothing::is_useful(frame, &all.known);
        // A component without a scan stays gray.
        all.steps =
            frame.components.iter().map(|component| Steps::new(component.steps.as_ref().unwrap_or(&[0; 64]))).collect();
        Ok(all)
    }

    fn scan(&mut self, reader: &mut Reader, frame: &mut Frame, scan: &Scan, number: u32) -> Result<()> {
        let (grid, mut mcus) = scan::begin(reader, frame, scan)?;
        for &component in &scan.components {
            let (known, before) = (&mut self.known[component], &mut self.known_before[component]);
            smoothing::note(known, before, scan, number);
        }
        let mut mcu = vec![[0; 64]; grid.blocks];
        for mcu_row in 0..frame.mcu_rows {
            for row in 0..grid.rows(frame, mcu_row) {
                for column in 0..grid.columns {
                    if !mcus.is_empty() {
                        self.last_good_row = mcu_row;
                    }
                    if let [only] = &grid.parts[..]
                        && grid.blocks == 1
                    {
                        let component = &frame.components[only.component];
                        let at = (mcu_row * component.vertical + row) * component.stored_columns + column;
                        mcus.decode(reader, &mut self.blocks[only.component][at..=at])?;
                        continue;
                    }
                    let mut count = 0;
                    let places = grid.parts.iter().flat_map(|part| {
                        let component = &frame.components[part.component];
                        let first = mcu_row * part.rows * component.stored_columns + column * part.columns;
                        (0..part.rows).map(move |row| (part, first + row * component.stored_columns))
                    });
                    for (part, at) in places.clone() {
                        mcu[count..count + part.columns]
                            .copy_from_slice(&self.blocks[part.component][at..at + part.columns]);
                        count += part.columns;
                    }
                    mcus.decode(reader, &mut mcu)?;
                    count = 0;
                    for (part, at) in places {
                        self.blocks[part.component][at..at + part.columns]
                            .copy_from_slice(&mcu[count..count + part.columns]);
                        count += part.columns;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the samples of a row of MCUs.
    pub fn samples(&self, frame: &Frame, mcu_row: usize, planes: &mut Planes) {
        for (index, component) in frame.components.iter().enumerate() {
            let blocks = &self.blocks[index];
            let known = if mcu_row > self.last_good_row { &self.known_before } else { &self.known };
            let first = mcu_row * component.vertical;
            for row in first..(first + component.vertical).min(component.rows) {
                for column in 0..component.columns {
                    let block = &blocks[row * component.stored_columns + column];
                    if self.is_smoothed {
                        let place = smoothing::Place { mcu_row, row, column };
                        let smooth = smoothing::smooth(frame, component, blocks, &place, &known[index]);
                        planes.put(index, row, column, &self.steps[index], &smooth);
                    } else {
                        planes.put(index, row, column, &self.steps[index], block);
                    }
                }
            }
        }
    }
}
