//! The directories of a TIFF, classic or BigTIFF, read in place: no list of numbers is copied, whatever its length.

use std::collections::HashSet;

use crate::pixels::tiff::error::Result;

/// The bytes of a TIFF, in either byte order.
#[derive(Clone, Copy)]
pub(in crate::pixels) struct Tiff<'a>(pub &'a [u8]);

/// The first bytes of TIFF files. The third and the fourth are wrong, but Pillow reads them by their byte order.
const MAGIC: [&[u8; 4]; 6] = [b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+"];

/// Names of the numbers in a directory.
pub(super) mod tag {
    pub const WIDTH: u64 = 256;
    pub const HEIGHT: u64 = 257;
    pub const BITS: u64 = 258;
    pub const COMPRESSION: u64 = 259;
    pub const PHOTOMETRIC: u64 = 262;
    pub const FILL_ORDER: u64 = 266;
    pub const STRIP_PLACES: u64 = 273;
    pub const SAMPLES: u64 = 277;
    pub const STRIP_ROWS: u64 = 278;
    pub const STRIP_LENGTHS: u64 = 279;
    pub const PLANES: u64 = 284;
    pub const GROUP_3_OPTIONS: u64 = 292;
    pub const PREDICTOR: u64 = 317;
    pub const PALETTE: u64 = 320;
    pub const TILE_WIDTH: u64 = 322;
    pub const TILE_HEIGHT: u64 = 323;
    pub const TILE_PLACES: u64 = 324;
    pub const TILE_LENGTHS: u64 = 325;
    pub const EXTRA_SAMPLES: u64 = 338;
    pub const SAMPLE_FORMAT: u64 = 339;
    pub const JPEG_TABLES: u64 = 347;
    pub const YCBCR_COEFFICIENTS: u64 = 529;
    pub const YCBCR_SUBSAMPLING: u64 = 530;
    pub const BLACK_AND_WHITE: u64 = 532;
}

/// Longest directory that libtiff accepts.
const MAX_ENTRIES: u64 = 65_535;

impl<'a> Tiff<'a> {
    pub(in crate::pixels) fn is_one(bytes: &[u8]) -> bool {
        MAGIC.iter().any(|magic| bytes.starts_with(*magic))
    }

    pub(super) fn is_little_endian(self) -> bool {
        self.0.starts_with(b"II")
    }

    fn is_big(self) -> bool {
        self.0.get(2..4).is_some_and(|version| version.contains(&b'+'))
    }

    /// Returns the sizes of an offset, of a directory's count of entries, and of an entry.
    fn sizes(self) -> (usize, usize, u64) {
        if self.is_big() { (8, 8, 20) } else { (4, 2, 12) }
    }

    fn number(self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let digits = self.0.get(at..at.checked_add(size)?)?.iter();
        let add = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(if self.is_little_endian() { digits.rev().fold(0, add) } else { digits.fold(0, add) })
    }

    /// Returns the offset of a directory, which is stored at `at`. Zero stands for none.
    fn directory(self, at: u64) -> Option<u64> {
        self.number(at, self.sizes().0).filter(|&directory| directory != 0)
    }

    fn first_directory(self) -> Option<u64> {
        self.directory(if self.is_big() { 8 } else { 4 })
    }

    /// Returns the number of pages from the chain of directories. Their entries are not read, because directories may
    /// overlap and each may have tens of thousands of entries: a file of a megabyte could ask for thousands of millions
    /// of entries.
    pub(in crate::pixels) fn pages(self) -> u32 {
        /// The limit of libtiff for most of its history.
        const MAX_PAGES: usize = 65_535;
        let (offset, count, entry) = self.sizes();
        let mut seen = HashSet::new();
        let mut next = self.first_directory();
        while let Some(at) = next {
            let entries = self.number(at, count).filter(|&entries| entries <= MAX_ENTRIES);
            let end = entries.and_then(|entries| at.checked_add(count as u64 + entries * entry));
            // A directory that does not end within the file cannot be read. One that was seen before closes a loop.
            let Some(end) = end.filter(|&end| self.number(end, offset).is_some()) else { break };
            if seen.len() == MAX_PAGES || !seen.insert(at) {
                break;
            }
            next = self.directory(end);
        }
        seen.len() as u32
    }

    /// Returns the entries of the first directory.
    fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        let (offset, count, entry_size) = self.sizes();
        let first = self.first_directory().unwrap_or(u64::MAX);
        let entries = self.number(first, count).filter(|&entries| entries <= MAX_ENTRIES).unwrap_or(0);
        (0..entries).map_while(move |entry| {
            let at = first.checked_add(count as u64 + entry * entry_size)?;
            let (tag, kind) = (self.number(at, 2)?, self.number(at + 2, 2)?);
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                _ => 8,
            };
            let length = self.number(at + 4, offset)?;
            let value = at + 4 + offset as u64;
            let is_inside = length <= (offset / size) as u64;
            let place = if is_inside { value } else { self.number(value, offset)? };
            Some(Entry { file: self, tag, kind, size, length, place })
        })
    }

    /// Returns the entry of a tag. Of several, the first counts, as in Pillow.
    pub(super) fn entry(self, tag: u64) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.tag == tag)
    }

    /// Returns the first number of a tag, or the default if the tag is missing.
    pub(super) fn first(self, tag: u64, default: u64) -> Result<u64> {
        self.entry(tag).map_or(Ok(default), |entry| entry.value(0))
    }
}

/// An entry of a directory: a tag and a list of numbers, which may be anywhere in the file.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    file: Tiff<'a>,
    tag: u64,
    kind: u64,
    size: usize,
    pub length: u64,
    place: u64,
}

impl<'a> Entry<'a> {
    /// Returns the bytes of a list of bytes.
    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        let start = usize::try_from(self.place).ok().filter(|_| self.size == 1)?;
        self.file.0.get(start..start.checked_add(usize::try_from(self.length).ok()?)?)
    }

    fn number(&self, index: u64, size: usize) -> Option<u64> {
        let at = index.checked_mul(self.size as u64)?.checked_add(self.place)?;
        self.file.number(at, size).filter(|_| index < self.length)
    }

    /// Returns one whole number of the list.
    pub(super) fn value(&self, index: u64) -> Result<u64> {
        const WHOLE: [u64; 9] = [1, 3, 4, 6, 8, 9, 13, 16, 18];
        let number = if WHOLE.contains(&self.kind) { self.number(index, self.size) } else { None };
        number.ok_or("a number in its directory cannot be read")
    }

    /// Returns one number of the list, of any type.
    pub(super) fn rational(&self, index: u64) -> Option<f64> {
        const RATIONAL: [u64; 2] = [5, 10];
        const FLOAT: u64 = 11;
        const DOUBLE: u64 = 12;
        match self.kind {
            FLOAT => Some(f32::from_bits(self.number(index, 4)? as u32).into()),
            DOUBLE => Some(f64::from_bits(self.number(index, 8)?)),
            kind if RATIONAL.contains(&kind) => {
                let halves = Self { size: 4, length: self.length.saturating_mul(2), ..*self };
                let [above, below] = [halves.number(2 * index, 4)?, halves.number(2 * index + 1, 4)?];
                Some(above as f64 / below as f64)
            }
            _ => self.value(index).ok().map(|value| value as f64),
        }
    }
}
