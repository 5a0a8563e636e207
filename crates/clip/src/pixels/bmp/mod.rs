//! BMP as Pillow 13 reads it: all headers of Windows and OS/2, with any number of planes, and with an offset of zero.
//! External crate: `image` for its trait.

mod runs;

use crate::pixels::decoder::{
    ColorType, DecodingError, ImageDecoder, ImageError, ImageFormat, ImageFormatHint, ImageResult,
};

use crate::error::Error;
use crate::pixels::format::{Format, TRUNCATED, undecodable};
use runs::Runs;

type Palette = [[u8; 3]; 256];

/// A BMP after its header was read.
pub(super) struct Bmp<'a> {
    bytes: &'a [u8],
    width: u32,
    height: u32,
    is_top_down: bool,
    /// The offset of its pixels.
    offset: usize,
    coding: Coding,
}

/// The storage of pixels.
enum Coding {
    /// Indices of 1, 2, 4 or 8 bits.
    Indices { bits: u32, palette: Box<Palette> },
    /// Indices in runs, of 4 bits or of 8.
    Runs { bits: u32, palette: Box<Palette> },
    /// Numbers of 16, 24 or 32 bits with the channels in them.
    Channels { bytes: usize, masks: [Mask; 3] },
}

/// The place of a channel in a number.
#[derive(Clone, Copy)]
struct Mask {
    shift: u32,
    max: u32,
}

type Reason = &'static str;

impl<'a> Bmp<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::read(bytes).map_err(|reason| undecodable(Format::Bmp, reason))
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Reason> {
        /// The file's header, and the size of the one that follows.
        const FILE: usize = 14;
        const CORE: usize = 12;
        let word = |at: usize| word(bytes, at);
        let half = |at: usize| Ok::<u32, Reason>(word(at)? & 0xffff);
        let size = word(FILE)? as usize;
        let is_core = size == CORE;
        if !is_core && ![40, 52, 56, 64, 108, 124].contains(&size) {
            return Err("its header has an unknown size");
        }
        let header = bytes.get(FILE..FILE + size).ok_or(TRUNCATED)?;
        let (width, height, bits, compression, colors) = match is_core {
            true => (half(18)?, half(20)?, half(24)?, RAW, 0),
            false => (word(18)?, word(22)?, half(28)?, word(30)?, word(46)?),
        };
        // Pillow reads only the last byte.
        let is_top_down = !is_core && header[11] == 0xff;
        let mut at = FILE + size;
        let coding = match (bits, compression) {
            (1 | 2 | 4 | 8, RAW | RUNS_8 | RUNS_4) => {
                let entry = if is_core { 3 } else { 4 };
                let colors = if colors == 0 { 1 << bits } else { colors };
                let length = entry * colors as usize;
                let palette = Box::new(palette(bytes.get(at..).unwrap_or_default(), entry, colors as usize));
                at = at.saturating_add(length);
                match compression {
                    RAW => Coding::Indices { bits, palette },
                    runs => Coding::Runs { bits: if runs == RUNS_4 { 4 } else { 8 }, palette },
                }
            }
            (16 | 24 | 32, RAW) => Coding::Channels { bytes: bits as usize / 8, masks: usual(bits)? },
            (16 | 24 | 32, FIELDS | FIELDS_AND_ALPHA) => {
                // In files with older headers the masks follow the header.
                let (first, after) = match size {
                    40 if compression == FIELDS => (at, 12),
                    40 => (at, 16),
                    _ => (54, 0),
                };
                at += after;
                let masks = [word(first)?, word(first + 4)?, word(first + 8)?];
                let masks = if masks == [0; 3] { usual(bits)? } else { each(masks, Mask::new)? };
                Coding::Channels { bytes: bits as usize / 8, masks }
            }
            (16 | 24 | 32, _) | (1 | 2 | 4 | 8, _) => return Err("its compression is not supported"),
            _ => return Err("its number of bits per pixel is not supported"),
        };
        let offset = match word(10)? as usize {
            0 => at,
            // Some files contain the offset of the palette instead.
            offset if bits <= 8 && offset == FILE + size => at,
            offset => offset,
        };
        let height = if is_top_down { height.wrapping_neg() } else { height };
        Ok(Self { bytes, width, height, is_top_down, offset, coding })
    }

    fn decode(&self, canvas: &mut [u8]) -> Result<(), Reason> {
        let stored = self.bytes.get(self.offset..).unwrap_or_default();
        let (width, height) = (self.width as usize, self.height as usize);
        let place = |row: usize| if self.is_top_down { row } else { height - 1 - row };
        let canvas = canvas.as_chunks_mut().0;
        match &self.coding {
            Coding::Indices { bits, palette } => {
                let row_of = rows(stored, width, *bits as usize);
                for row in 0..height {
                    let stored = row_of(row).ok_or(TRUNCATED)?;
                    let pixels = &mut canvas[place(row) * width..][..width];
                    for (x, pixel) in pixels.iter_mut().enumerate() {
                        let at = x * *bits as usize;
                        let index = stored[at / 8] >> (8 - *bits as usize - at % 8) & (0xff >> (8 - bits)) as u8;
                        *pixel = palette[usize::from(index)];
                    }
                }
            }
            Coding::Runs { bits, palette } => {
                canvas.fill(palette[0]);
                let mut runs = Runs::new(self.bytes, self.offset, *bits == 4, width, height);
                while let Some((at, index)) = runs.next_pixel()? {
                    canvas[place(at / width) * width + at % width] = palette[usize::from(index)];
                }
            }
            Coding::Channels { bytes, masks } => {
                let row_of = rows(stored, width, 8 * bytes);
                for row in 0..height {
                    let stored = row_of(row).ok_or(TRUNCATED)?;
                    let pixels = &mut canvas[place(row) * width..][..width];
                    for (pixel, stored) in pixels.iter_mut().zip(stored.chunks_exact(*bytes)) {
                        let number = stored.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
                        *pixel = masks.map(|mask| mask.level(number));
                    }
                }
            }
        }
        Ok(())
    }
}

const RAW: u32 = 0;
const RUNS_8: u32 = 1;
const RUNS_4: u32 = 2;
const FIELDS: u32 = 3;
const FIELDS_AND_ALPHA: u32 = 6;

fn word(bytes: &[u8], at: usize) -> Result<u32, Reason> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|&word| u32::from_le_bytes(word)).ok_or(TRUNCATED)
}

fn each<T: Copy, U>(three: [T; 3], make: impl Fn(T) -> Result<U, Reason>) -> Result<[U; 3], Reason> {
    let [a, b, c] = three;
    Ok([make(a)?, make(b)?, make(c)?])
}

/// Returns the masks of the channels if the header has none.
fn usual(bits: u32) -> Result<[Mask; 3], Reason> {
    match bits {
        16 => each([0x7c00, 0x3e0, 0x1f], Mask::new),
        _ => each([0xff_0000, 0xff00, 0xff], Mask::new),
    }
}

/// Returns the rows as they are stored. Each takes a multiple of four bytes; the last row may lack the padding.
fn rows<'a>(stored: &'a [u8], width: usize, bits: usize) -> impl Fn(usize) -> Option<&'a [u8]> {
    let used = (width * bits).div_ceil(8);
    let stride = used.next_multiple_of(4);
    move |row| stored.get(row * stride..)?.get(..used)
}

/// Returns the colors of all indices. Pillow makes indices without an entry black. It ignores a palette of grays: then
/// each index is its level, and an index of one bit is black or white.
fn palette(stored: &[u8], entry: usize, colors: usize) -> Palette {
    let stored = stored.chunks_exact(entry).take(colors.min(256));
    let is_grey = |level: fn(usize) -> u8| {
        stored.len() == colors.min(256)
            && stored.clone().enumerate().all(|(index, color)| color[..3] == [level(index); 3])
    };
    let levels: Option<fn(usize) -> u8> = match colors {
        ..=2 if is_grey(|index| if index == 0 { 0 } else { 255 }) => Some(|index| if index == 0 { 0 } else { 255 }),
        3.. if is_grey(|index| index as u8) => Some(|index| index as u8),
        _ => None,
    };
    if let Some(level) = levels {
        return std::array::from_fn(|index| [level(index); 3]);
    }
    let mut palette = [[0; 3]; 256];
    for (color, stored) in palette.iter_mut().zip(stored) {
        *color = [stored[2], stored[1], stored[0]];
    }
    palette
}

impl Mask {
    fn new(mask: u32) -> Result<Self, Reason> {
        let shift = mask.trailing_zeros() % u32::BITS;
        let max = mask >> shift;
        // All bits are ones, or the channel is missing.
        if max & max.wrapping_add(1) != 0 { Err("its bit fields are not supported") } else { Ok(Self { shift, max }) }
    }

    fn level(self, number: u32) -> u8 {
        let value = u64::from(number >> self.shift & self.max);
        (value * 255).checked_div(self.max.into()).unwrap_or(0) as u8
    }
}

impl ImageDecoder for Bmp<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }

    fn read_image(self, canvas: &mut [u8]) -> ImageResult<()> {
        self.decode(canvas).map_err(|reason| {
            ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Bmp), reason))
        })
    }

    fn read_image_boxed(self: Box<Self>, canvas: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(canvas)
    }
}
