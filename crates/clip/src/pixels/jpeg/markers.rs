//! Markers of a JPEG: everything outside the entropy-coded data, read in the order and with the checks of libjpeg.

use super::error::{Result, TRUNCATED};
use super::frame::{Coding, Component, Frame, Scan};
use super::reader::{Reader, Segments};

/// The end of a series of markers.
pub(super) enum Next {
    Scan(Scan),
    End,
}

impl Reader<'_> {
    /// Reads the first marker, which must come first in the data.
    pub fn begin(&mut self) -> Result<()> {
        if self.word()? != 0xffd8 {
            return Err("it does not begin like a JPEG");
        }
        self.tables.reset();
        self.segments = Segments::default();
        Ok(())
    }

    /// Reads markers up to the next scan or to the end. Sets the frame when its header is read.
    pub fn read(&mut self, frame: &mut Option<Frame>) -> Result<Next> {
        loop {
            if self.marker == 0 {
                self.seek_marker()?;
            }
            match self.marker {
                0xc0 | 0xc1 => self.frame(frame, Coding::default())?,
                0xc2 => self.frame(frame, Coding { progressive: true, ..Coding::default() })?,
                0xc3 => self.frame(frame, Coding { lossless: true, ..Coding::default() })?,
                0xc9 => self.frame(frame, Coding { arithmetic: true, ..Coding::default() })?,
                0xca => self.frame(frame, Coding { arithmetic: true, progressive: true, ..Coding::default() })?,
                0xc4 => self.huffman()?,
                0xcc => self.conditioning()?,
                0xda => {
                    let scan = self.scan(frame.as_mut().ok_or("a scan comes before its frame")?)?;
                    self.marker = 0;
                    self.restart = 0;
                    return Ok(Next::Scan(scan));
                }
                0xd9 => {
                    self.marker = 0;
                    return Ok(Next::End);
                }
                0xdb => self.quantization()?,
                0xdd => self.interval()?,
                0xd0..=0xd7 | 0x01 => {}
                0xe0 => {
                    self.segments.jfif |=
                        matches!(self.segment()?, [b'J', b'F', b'I', b'F', 0, _, _, _, _, _, _, _, _, _, ..])
                }
                0xee => {
                    if let [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..] = self.segment()? {
                        self.segments.adobe = Some(*transform);
                    }
                }
                0xdc | 0xe1..=0xef | 0xfe => drop(self.segment()?),
                0xd8 => return Err("another JPEG begins in it"),
                0xcb => return Err("lossless JPEG with arithmetic coding is not supported"),
                0xc5..=0xc7 | 0xcd..=0xcf | 0xde | 0xdf => return Err("hierarchical JPEG is not supported"),
                _ => return Err("it has an unknown marker"),
            }
            self.marker = 0;
        }
    }

    /// Reads the data after the only scan, up to the end of Pillow's buffer. A missing end does not matter there, but
    /// data that is not JPEG does.
    pub fn finish(&mut self, frame: &mut Option<Frame>) -> Result<()> {
        const BUFFER: usize = 1 << 16;
        let end = self.at.next_multiple_of(BUFFER).min(self.bytes.len());
        self.bytes = &self.bytes[..end];
        match self.read(frame) {
            Ok(Next::End) | Err(TRUNCATED) => Ok(()),
            Ok(Next::Scan(_)) => Err("it has more scans than components"),
            Err(reason) => Err(reason),
        }
    }

    fn frame(&mut self, frame: &mut Option<Frame>, coding: Coding) -> Result<()> {
        if frame.is_some() {
            return Err("it has more than one frame");
        }
        let length = self.length()?;
        let [precision, h0, h1, w0, w1, count] = self.take()?;
        let size = [[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_be_bytes(side)));
        if precision != 8 {
            return Err("only samples of 8 bits are supported");
        }
        if length != 6 + 3 * usize::from(count) {
            return Err("the length of its frame header is wrong");
        }
        let mut components = Vec::with_capacity(count.into());
        for _ in 0..count {
            let [id, sampling, table] = self.take()?;
            components.push(Component::new(id, (sampling >> 4, sampling & 15), table));
        }
        *frame = Some(Frame::new(coding, size, components)?);
        Ok(())
    }

    fn scan(&mut self, frame: &mut Frame) -> Result<Scan> {
        let (length, count) = (self.length()?, self.byte()?);
        if !(1..=4).contains(&count) || length != 4 + 2 * usize::from(count) {
            return Err("the length of a scan header is wrong");
        }
        let mut chosen = Vec::with_capacity(count.into());
        for place in 0..count.into() {
            let [id, tables] = self.take()?;
            // libjpeg wants the components of a scan in the order of the frame.
            let found = frame.components.iter().enumerate().skip(place).find(|(_, component)| component.id == id);
            let Some((index, _)) = found.filter(|(index, _)| !chosen.contains(index)) else {
                return Err("a scan names a component that the frame does not have");
            };
            frame.components[index].tables = (tables >> 4, tables & 15);
            chosen.push(index);
        }
        let [first, last, bits] = self.take()?;
        Ok(Scan { components: chosen, first, last, high: bits >> 4, low: bits & 15 })
    }
}
