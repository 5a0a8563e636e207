//! JPEG, decoded as libjpeg-turbo 3 does it for Pillow: the same samples, bit for bit, of damaged files too.
//! All kinds that Pillow reads: sequential, progressive and lossless, by Huffman codes and by arithmetic coding, with
//! any sampling, in one scan or several. The work is based in part on that of the Independent JPEG Group.

mod arithmetic;
mod bits;
mod block;
mod coefficients;
mod colors;
mod cost;
mod decoder;
mod definitions;
mod entropy;
mod error;
mod frame;
mod huffman;
mod idct;
mod lossless;
mod markers;
mod planes;
mod probabilities;
mod progressive;
mod reader;
mod scan;
mod sequential;
mod smoothing;
#[cfg(target_arch = "x86_64")]
mod sse2;
mod tables;
#[cfg(test)]
mod tests;
mod upsampling;

pub(super) use colors::Colors;
pub(super) use cost::{MAX_SCANNED_PIXELS, scanned_pixels};

use block::Steps;
use coefficients::Coefficients;
use colors::Stored;
use error::{NO_FRAME, Result};
use frame::{Frame, Scan};
use markers::Next;
use planes::Planes;
use reader::Reader;
use upsampling::Upsampling;

/// A JPEG after its headers were read, up to the first scan.
pub(super) struct Jpeg<'a> {
    reader: Reader<'a>,
    frame: Frame,
    scan: Scan,
}

impl<'a> Jpeg<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let jpeg = Self::begin(Reader::new(bytes))?;
        // Only a TIFF has two components: gray and alpha.
        match jpeg.frame.components.len() {
            2 => Err("only one, three or four colours are supported"),
            _ => Ok(jpeg),
        }
    }

    /// Opens a stream that uses the tables of another, as in a TIFF.
    pub fn open_with_tables(tables: &[u8], bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(tables);
        reader.begin()?;
        match reader.read(&mut None)? {
            Next::End => Self::begin(reader.with_bytes(bytes)),
            Next::Scan(_) => Err("its tables have a scan"),
        }
    }

    fn begin(mut reader: Reader<'a>) -> Result<Self> {
        let mut frame = None;
        loop {
            reader.begin()?;
            match reader.read(&mut frame)? {
                Next::Scan(scan) => {
                    let frame = frame.ok_or(NO_FRAME)?;
                    return Ok(Self { reader, frame, scan });
                }
                Next::End if frame.is_some() => return Err("it has no scan"),
                // Tables may come first, as a stream of their own.
                Next::End => {}
            }
        }
    }

    pub fn width(&self) -> u32 {
        self.frame.width
    }

    pub fn height(&self) -> u32 {
        self.frame.height
    }

    /// Returns the samples of a pixel.
    pub fn channels(&self, colors: Colors) -> usize {
        Stored::of(&self.frame, &self.reader.segments, colors).channels(&self.frame)
    }

    /// Returns the bytes that decoding takes in addition to the samples that it returns.
    pub fn bytes(&self) -> u64 {
        let coefficients =
            if self.is_buffered() && !self.frame.coding.lossless { Coefficients::bytes(&self.frame) } else { 0 };
        // Rows of each component, and their sums.
        let rows = 16 * self.frame.row_bytes();
        Planes::bytes(&self.frame) + coefficients + rows
    }

    /// Returns true if all scans must be read before the first sample is known.
    fn is_buffered(&self) -> bool {
        self.frame.coding.progressive || self.scan.components.len() < self.frame.components.len()
    }

    /// Writes the samples, pixel for pixel, to a buffer of their size.
    pub fn decode(self, colors: Colors, pixels: &mut [u8]) -> Result<()> {
        let is_buffered = self.is_buffered();
        let Self { mut reader, frame, scan } = self;
        let stored = Stored::of(&frame, &reader.segments, colors);
        let mut output = Output::new(&frame, stored, pixels)?;
        let mut planes = Planes::new(&frame)?;
        let coding = frame.coding;
        if coding.lossless && stored.is_lossy() {
            return Err("a lossless JPEG of other colours than RGB is not supported");
        }
        let mut slot = Some(frame);
        if !coding.progressive && !coding.lossless {
            sequential::complete(&mut reader);
        }
        if coding.lossless {
            lossless::read(&mut reader, &mut slot, scan, &mut planes)?;
            output.write(&planes, usize::MAX);
        } else if is_buffered {
            let coefficients = Coefficients::read(&mut reader, &mut slot, scan)?;
            let frame = slot.as_ref().ok_or(NO_FRAME)?;
            for mcu_row in 0..frame.mcu_rows {
                planes.advance(mcu_row);
                coefficients.samples(frame, mcu_row, &mut planes);
                output.write(&planes, Output::ready(frame, mcu_row));
            }
        } else {
            let frame = slot.as_mut().ok_or(NO_FRAME)?;
            read_at_once(&mut reader, frame, &scan, &mut planes, &mut output)?;
        }
        if is_buffered { Ok(()) } else { reader.finish(&mut slot) }
    }
}

/// Reads the only scan of an image, and makes its samples row by row.
fn read_at_once(
    reader: &mut Reader,
    frame: &mut Frame,
    scan: &Scan,
    planes: &mut Planes,
    output: &mut Output,
) -> Result<()> {
    scan::Budget::default().spend(frame, scan)?;
    let (grid, mut mcus) = scan::begin(reader, frame, scan)?;
    let steps: Vec<Steps> =
        frame.components.iter().filter_map(|component| component.steps.as_ref()).map(Steps::new).collect();
    let mut mcu = [[0; 64]; 10];
    let mcu = &mut mcu[..grid.blocks];
    for mcu_row in 0..frame.mcu_rows {
        planes.advance(mcu_row);
        for row in 0..grid.rows(frame, mcu_row) {
            for column in 0..grid.columns {
                mcu.fill([0; 64]);
                mcus.decode(reader, mcu)?;
                let mut blocks = mcu.iter();
                for part in &grid.parts {
                    let component = &frame.components[part.component];
                    for y in 0..part.rows {
                        for x in 0..part.columns {
                            let Some(block) = blocks.next() else { break };
                            let (row, column) = (mcu_row * component.vertical + row + y, column * part.columns + x);
                            if row < component.rows && column < component.columns {
                                planes.put(part.component, row, column, &steps[part.component], block);
                            }
                        }
                    }
                }
            }
        }
        output.write(planes, Output::ready(frame, mcu_row));
    }
    Ok(())
}

/// The destination of pixels, row after row.
struct Output<'a> {
    stored: Stored,
    upsampling: Vec<Upsampling>,
    rows: std::iter::Enumerate<std::slice::ChunksExactMut<'a, u8>>,
    /// Rows that were written.
    written: usize,
}

impl<'a> Output<'a> {
    fn new(frame: &Frame, stored: Stored, pixels: &'a mut [u8]) -> Result<Self> {
        let upsampling = frame.components.iter().map(|component| Upsampling::new(frame, component));
        let upsampling = upsampling.collect::<Result<_>>()?;
        let rows = pixels.chunks_exact_mut(frame.width as usize * stored.channels(frame)).enumerate();
        Ok(Self { stored, upsampling, rows, written: 0 })
    }

    /// Returns how many rows can be written after a row of MCUs. Its last rows need the next row of MCUs.
    fn ready(frame: &Frame, mcu_row: usize) -> usize {
        let is_last = mcu_row + 1 == frame.mcu_rows;
        if is_last { usize::MAX } else { (mcu_row + 1) * 8 * frame.vertical - frame.vertical }
    }

    fn write(&mut self, planes: &Planes, ready: usize) {
        while self.written < ready
            && let Some((row, pixels)) = self.rows.next()
        {
            let mut rows = [&[][..]; 4];
            let components = planes.0.iter().zip(&mut self.upsampling);
            let mut count = 0;
            for (slot, (plane, upsampling)) in rows.iter_mut().zip(components) {
                *slot = upsampling.row(plane, row);
                count += 1;
            }
            self.stored.convert(&rows[..count], pixels);
            self.written = row + 1;
        }
    }
}
