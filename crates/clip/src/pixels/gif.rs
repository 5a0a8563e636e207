//! The first frame of a GIF on its canvas, composed like Pillow 13 does.
//! The canvas is the screen, extended to contain the frame. The transparent index fills the rest of the canvas, or
//! index 0 if no index is transparent; the background color of the header is not used. External crates: `image` for its
//! trait, `weezl`.

use crate::pixels::decoder::{
    ColorType, DecodingError, ImageDecoder, ImageError, ImageFormat, ImageFormatHint, ImageResult, LimitError,
    LimitErrorKind,
};
use weezl::{BitOrder, LzwStatus, decode};

use crate::error::Error;
use crate::memory::reserve;
use crate::pixels::format::{Format, TRUNCATED, undecodable};

type Palette = [[u8; 3]; 256];

/// A GIF after its first frame was found.
pub(super) struct Gif<'a> {
    width: u32,
    height: u32,
    palette: Palette,
    /// The index of the canvas outside the frame.
    outside: u8,
    frame: Frame<'a>,
}

/// A frame by its descriptor.
struct Frame<'a> {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    is_interlaced: bool,
    palette: Option<Palette>,
    transparent: Option<u8>,
    code_size: u8,
    /// The rest of the file: blocks with its pixels, and other frames.
    data: &'a [u8],
}

impl<'a> Gif<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::read(bytes)
            .ok_or_else(|| undecodable(Format::Gif, TRUNCATED))?
            .map_err(|reason| undecodable(Format::Gif, reason))
    }

    /// Returns None if the file ends before its first frame begins.
    fn read(bytes: &'a [u8]) -> Option<Result<Self, &'static str>> {
        let mut blocks = Blocks(bytes);
        let (screen, global) = blocks.header()?;
        let Some(frame) = blocks.frame()? else { return Some(Err("it has no frame")) };
        if frame.width == 0 || frame.height == 0 {
            return Some(Err("its frame has no pixels"));
        }
        Some(Ok(Self {
            width: screen.0.max(frame.left + frame.width),
            height: screen.1.max(frame.top + frame.height),
            palette: frame.palette.or(global).unwrap_or_else(grey),
            outside: frame.transparent.unwrap_or(0),
            frame,
        }))
    }

    fn decode(&self, canvas: &mut [u8]) -> Result<(), Reason> {
        let indices = self.frame.indices()?;
        let outside = self.palette[usize::from(self.outside)];
        canvas.as_chunks_mut().0.fill(outside);
        let (left, width) = (self.frame.left as usize, self.frame.width as usize);
        for (indices, y) in indices.chunks_exact(width).zip(self.frame.rows()) {
            let start = (self.frame.top as usize + y) * self.width as usize + left;
            let row = canvas[3 * start..][..3 * width].as_chunks_mut().0;
            for (pixel, index) in row.iter_mut().zip(indices) {
                *pixel = self.palette[usize::from(*index)];
            }
        }
        Ok(())
    }
}

/// Reasons why pixels cannot be decoded.
enum Reason {
    Memory,
    Damaged(&'static str),
}

impl Frame<'_> {
    /// Returns the indices of its pixels, in their stored order.
    fn indices(&self) -> Result<Vec<u8>, Reason> {
        const MAX_BITS: u8 = 12;
        const DAMAGED: Reason = Reason::Damaged("its codes are damaged");
        if self.code_size > MAX_BITS {
            return Err(DAMAGED);
        }
        let pixels = self.width as usize * self.height as usize;
        let mut indices = reserve(pixels).map_err(|_| Reason::Memory)?;
        indices.resize(pixels, 0);
        let mut decoder =
            decode::Configuration::new(BitOrder::Lsb, self.code_size).with_yield_on_full_buffer(true).build();
        let (mut blocks, mut done) = (Blocks(self.data), 0);
        loop {
            let block = blocks.block();
            let mut rest = block.unwrap_or_default();
            while done < pixels {
                let result = decoder.decode_bytes(rest, &mut indices[done..]);
                done += result.consumed_out;
                rest = &rest[result.consumed_in..];
                match result.status {
                    Err(_) => return Err(DAMAGED),
                    // The code of the end comes before the last pixel.
                    Ok(LzwStatus::Done) if done < pixels => return Err(Reason::Damaged(TRUNCATED)),
                    Ok(_) if (result.consumed_in, result.consumed_out) == (0, 0) => break,
                    Ok(_) => {}
                }
            }
            if done == pixels {
                return Ok(indices);
            }
            if block.is_none() {
                return Err(Reason::Damaged(TRUNCATED));
            }
        }
    }

    /// Returns the rows of its pixels, in their stored order.
    fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        const PASSES: [(usize, usize); 4] = [(0, 8), (4, 8), (2, 4), (1, 2)];
        let passes = if self.is_interlaced { &PASSES[..] } else { &[(0, 1)] };
        let height = self.height as usize;
        passes.iter().flat_map(move |&(first, step)| (first..height).step_by(step))
    }
}

/// Returns the number of frames that can be read.
pub(super) fn frames(bytes: &[u8]) -> u32 {
    let mut blocks = Blocks(bytes);
    let mut frames = 0;
    if blocks.header().is_some() {
        while let Some(Some(_)) = blocks.frame() {
            frames += 1;
            blocks.pass();
        }
    }
    frames
}

/// The rest of a file.
struct Blocks<'a>(&'a [u8]);

impl<'a> Blocks<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// Returns the size of the screen and the global palette.
    fn header(&mut self) -> Option<((u32, u32), Option<Palette>)> {
        const VERSION: usize = 6;
        self.take(VERSION)?;
        let [w0, w1, h0, h1, flags, _background, _aspect] = *self.take(7)? else { return None };
        Some(((side(w0, w1), side(h0, h1)), self.palette(flags)?))
    }

    /// Returns the palette, of a size that the flags contain. Pillow makes the other indices black, and ignores a
    /// palette of all gray levels in their order.
    fn palette(&mut self, flags: u8) -> Option<Option<Palette>> {
        if flags & PALETTE == 0 {
            return Some(None);
        }
        const SIZE: u8 = 7;
        let stored: &[[u8; 3]] = self.take(6 << (flags & SIZE))?.as_chunks().0;
        let mut palette = [[0; 3]; 256];
        palette[..stored.len()].copy_from_slice(stored);
        Some((!grey().starts_with(stored)).then_some(palette))
    }

    /// Returns the next frame. The inner None means that the file ends, or has its trailer, before a frame begins.
    fn frame(&mut self) -> Option<Option<Frame<'a>>> {
        const CONTROL: u8 = 0xf9;
        const COMMENT: u8 = 0xfe;
        const INTERLACED: u8 = 1 << 6;
        let mut transparent = None;
        loop {
            match self.byte() {
                None | Some(b';') => return Some(None),
                Some(b'!') => {
                    let kind = self.byte()?;
                    let block = self.block();
                    if kind == CONTROL
                        && let Some(block) = block
                    {
                        // The delay, and a transparent index if a flag announces one.
                        match *block {
                            [flags, _, _, index, ..] if flags & 1 != 0 => transparent = Some(index),
                            [flags, _, _, ..] if flags & 1 == 0 => {}
                            _ => return None,
                        }
                    }
                    // A comment without a block ends here; other extensions continue.
                    if kind != COMMENT || block.is_some() {
                        self.pass();
                    }
                }
                Some(b',') => {
                    let [x0, x1, y0, y1, w0, w1, h0, h1, flags] = *self.take(9)? else { return None };
                    let palette = self.palette(flags)?;
                    return Some(Some(Frame {
                        left: side(x0, x1),
                        top: side(y0, y1),
                        width: side(w0, w1),
                        height: side(h0, h1),
                        is_interlaced: flags & INTERLACED != 0,
                        palette,
                        transparent,
                        code_size: self.byte()?,
                        data: self.0,
                    }));
                }
                // Pillow skips bytes between blocks.
                Some(_) => {}
            }
        }
    }

    /// Returns the available part of a block of data, or None after the last block.
    fn block(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?);
        self.take(length.min(self.0.len())).filter(|block| !block.is_empty())
    }

    /// Skips blocks of data.
    fn pass(&mut self) {
        while self.block().is_some() {}
    }
}

/// The flag of a palette that follows.
const PALETTE: u8 = 1 << 7;

fn side(low: u8, high: u8) -> u32 {
    u16::from_le_bytes([low, high]).into()
}

fn grey() -> Palette {
    std::array::from_fn(|level| [level as u8; 3])
}

impl ImageDecoder for Gif<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }

    fn read_image(self, canvas: &mut [u8]) -> ImageResult<()> {
        self.decode(canvas).map_err(|reason| match reason {
            Reason::Memory => ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory)),
            Reason::Damaged(reason) => {
                ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Gif), reason))
            }
        })
    }

    fn read_image_boxed(self: Box<Self>, canvas: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(canvas)
    }
}
