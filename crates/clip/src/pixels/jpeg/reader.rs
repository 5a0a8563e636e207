//! The bytes of a JPEG, read one after another and up to the next marker. External crate: `memchr`.

use memchr::memchr;

use super::error::{Result, TRUNCATED};
use super::tables::Tables;

/// Reads bytes and markers, and holds the tables that the segments define.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// A marker that was read and not yet used, or 0.
    pub marker: u8,
    /// Number of the restart marker that comes next.
    pub restart: u8,
    pub tables: Tables,
    pub segments: Segments,
}

/// Facts from the segments in front of the scans.
#[derive(Default)]
pub(super) struct Segments {
    pub jfif: bool,
    /// Color transform of Adobe's segment.
    pub adobe: Option<u8>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, marker: 0, restart: 0, tables: Tables::default(), segments: Segments::default() }
    }

    /// Goes on in another stream, with the tables of this one.
    pub fn with_bytes<'b>(self, bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes, at: 0, marker: 0, restart: 0, tables: self.tables, segments: self.segments }
    }

    pub fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(TRUNCATED)?;
        self.at += 1;
        Ok(byte)
    }

    pub fn word(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        let bytes = *self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
        self.at += COUNT;
        Ok(bytes)
    }

    /// Returns the length of the rest of a segment.
    pub fn length(&mut self) -> Result<usize> {
        Ok(usize::from(self.word()?).saturating_sub(2))
    }

    /// Returns the content of a segment.
    pub fn segment(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        let content = self.bytes.get(self.at..self.at + length).ok_or(TRUNCATED)?;
        self.at += length;
        Ok(content)
    }

    /// Goes to the next marker, over whatever lies before it.
    pub fn seek_marker(&mut self) -> Result<()> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            self.at += memchr(0xff, rest).ok_or(TRUNCATED)? + 1;
            let mut byte = self.byte()?;
            while byte == 0xff {
                byte = self.byte()?;
            }
            if byte != 0 {
                self.marker = byte;
                return Ok(());
            }
        }
    }

    /// Takes the restart marker that is due. Where another is found, it decides as libjpeg does: a marker may be left
    /// unread, and the scan then has no data until its turn.
    pub fn restart(&mut self) -> Result<()> {
        if self.marker == 0 {
            self.seek_marker()?;
        }
        let due = self.restart;
        self.restart = (due + 1) % 8;
        loop {
            let ahead = match self.marker {
                0xd0..=0xd7 => (self.marker - 0xd0 + 8 - due) % 8,
                // Invalid markers are skipped; any other ends the data.
                0..0xc0 => 7,
                _ => return Ok(()),
            };
            match ahead {
                1 | 2 => return Ok(()),
                6 | 7 => self.seek_marker()?,
                _ => break,
            }
        }
        self.marker = 0;
        Ok(())
    }
}
