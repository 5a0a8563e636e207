//! The directory of a TIFF, read before its decoder does: what chunks it has, and what they would cost.

use std::collections::HashSet;

use crate::pixels::jpeg::{MAX_SCANNED_PIXELS, scanned_pixels};

/// A TIFF, of either byte order.
pub(super) struct Tiff<'a>(pub &'a [u8]);

impl Tiff<'_> {
    /// Sizes of an offset, of a directory's count of entries, and of an entry.
    const OFFSET: usize = 4;
    const COUNT: usize = 2;
    const ENTRY: u64 = 12;

    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let digits = self.0.get(at..at.checked_add(size)?)?.iter();
        let add = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(if self.0.starts_with(b"II") { digits.rev().fold(0, add) } else { digits.fold(0, add) })
    }

    /// An offset of a directory, which may be none.
    fn directory(&self, at: u64) -> Option<u64> {
        self.number(at, Self::OFFSET).filter(|&directory| directory != 0)
    }

    /// Pages, by the chain of directories alone. Their entries are not read: directories may overlap, and each may have
    /// tens of thousands, which a file of a megabyte could ask for thousands of millions of times.
    pub(super) fn pages(&self) -> u32 {
        /// As many as libtiff knew for most of its life.
        const MOST: usize = 65_535;
        let mut seen = HashSet::new();
        let mut next = self.directory(4);
        while let Some(at) = next {
            let end = self.number(at, Self::COUNT).map(|entries| at + Self::COUNT as u64 + entries * Self::ENTRY);
            // One that does not end within the file cannot be read; one that was seen leads back.
            let Some(end) = end.filter(|&end| self.number(end, Self::OFFSET).is_some()) else { break };
            if seen.len() == MOST || !seen.insert(at) {
                break;
            }
            next = self.directory(end);
        }
        seen.len() as u32
    }

    /// The entries of the first directory.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let first = self.directory(4).unwrap_or(u64::MAX);
        let entries = self.number(first, Self::COUNT).unwrap_or(0);
        (0..entries).map_while(move |entry| {
            let at = first + Self::COUNT as u64 + entry * Self::ENTRY;
            let (tag, kind) = (self.number(at, 2)?, self.number(at + 2, 2)?);
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                _ => 8,
            };
            let length = self.number(at + 4, 4)?;
            let place = if size as u64 * length <= 4 { at + 8 } else { self.number(at + 8, 4)? };
            Some(Entry { tag, kind, size, length, place })
        })
    }

    /// How many numbers the longest list of the first directory says it has, of those that tell how the pixels are stored.
    /// Others, such as colour profiles, are not read.
    pub(super) fn longest_list(&self) -> u64 {
        /// The decoder refuses longer ones.
        const MOST: u64 = 8 * 1024 * 1024;
        const TEXT: u64 = 2;
        let of_pixels = |entry: &Entry| matches!(entry.tag, 256..=347 | 530) && entry.kind != TEXT;
        let longest = self.entries().filter(of_pixels).map(|entry| entry.length).max();
        longest.unwrap_or(0).min(MOST)
    }

    /// The entry of a tag. Of several it is not known which a decoder takes.
    fn entry(&self, tag: u64) -> Result<Option<Entry>, Defect> {
        let mut found = self.entries().filter(|entry| entry.tag == tag);
        match (found.next(), found.next()) {
            (entry, None) => Ok(entry),
            _ => Err("its directory names something twice"),
        }
    }

    /// One number of an entry.
    fn value(&self, entry: &Entry, index: u64) -> Result<u64, Defect> {
        const WHOLE: [u64; 4] = [1, 3, 4, 13];
        let number =
            WHOLE.contains(&entry.kind).then(|| self.number(entry.place + index * entry.size as u64, entry.size));
        number.flatten().ok_or("a number in its directory cannot be read")
    }

    /// The first number of a tag, or what it is where it is not said.
    fn first(&self, tag: u64, unsaid: u64) -> Result<u64, Defect> {
        self.entry(tag)?.map_or(Ok(unsaid), |entry| self.value(&entry, 0))
    }

    /// The samples of a pixel, and the bytes of the widest.
    fn samples(&self) -> Result<(u64, u64), Defect> {
        const MOST_SAMPLES: u64 = 8;
        const MOST_BITS: u64 = 64;
        let samples = self.first(277, 1)?;
        let bits = match self.entry(258)? {
            Some(entry) => {
                (0..entry.length.min(MOST_SAMPLES)).map(|index| self.value(&entry, index)).max().unwrap_or(Ok(1))?
            }
            None => 1,
        };
        if samples > MOST_SAMPLES || bits > MOST_BITS {
            return Err("it has too many samples, or samples of too many bits");
        }
        Ok((samples.max(1), bits.div_ceil(8)))
    }

    /// The bytes that a pixel takes as it is stored, with the coefficients where that is a JPEG.
    pub(super) fn bytes_per_pixel(&self) -> u64 {
        const COEFFICIENTS: u64 = 8;
        let stored = self.samples().map_or(0, |(samples, bytes)| samples * bytes);
        stored + if self.is_jpeg() { COEFFICIENTS } else { 0 }
    }

    fn is_jpeg(&self) -> bool {
        const COMPRESSION: u64 = 259;
        const JPEG: u64 = 7;
        self.first(COMPRESSION, 1) == Ok(JPEG)
    }

    /// Why it is not decoded: chunks that are much larger than the picture, or lie in one another, would be decoded whole.
    pub(super) fn defect(&self, size: (u64, u64), most_pixels: u64) -> Option<Defect> {
        self.check(size, most_pixels).err()
    }

    fn check(&self, (width, height): (u64, u64), most_pixels: u64) -> Result<(), Defect> {
        const LONGEST_TILE: u64 = 1 << 16;
        /// Chunks of JPEG are whole blocks of it.
        const BLOCK: u64 = 16;
        self.samples()?;
        let (strips, tiles) = (self.entry(273)?, self.entry(324)?);
        let (chunk, places, lengths) = match (strips, tiles) {
            (Some(strips), None) => ((width, self.first(278, height)?.min(height)), strips, self.entry(279)?),
            (None, Some(tiles)) => ((self.first(322, 0)?, self.first(323, 0)?), tiles, self.entry(325)?),
            _ => return Err("it has not either strips or tiles"),
        };
        if chunk.0 == 0 || chunk.1 == 0 {
            return Err("its strips or tiles are empty");
        }
        let lengths = lengths.ok_or("its strips or tiles have no lengths")?;
        let padded = |side: u64, chunk: u64| side.div_ceil(chunk) * chunk;
        let decoded = padded(width, chunk.0).saturating_mul(padded(height, chunk.1));
        if chunk.0 > width.max(LONGEST_TILE) || chunk.1 > height.max(LONGEST_TILE) || decoded > 2 * most_pixels {
            return Err("its tiles are much larger than it is");
        }
        let jpeg_size = self.is_jpeg().then(|| (chunk.0.next_multiple_of(BLOCK), chunk.1.next_multiple_of(BLOCK)));
        let (mut stored, mut scanned) = (0, 0);
        for index in 0..places.length.min(lengths.length) {
            let (place, length) = (self.value(&places, index)?, self.value(&lengths, index)?);
            let rest = self.0.get(place as usize..).unwrap_or_default();
            let chunk = rest.get(..length as usize).unwrap_or(rest);
            stored += chunk.len();
            if stored > 2 * self.0.len() {
                return Err("its strips or tiles lie in one another");
            }
            scanned += jpeg_size.map_or(Ok(0), |size| scanned_pixels(chunk, size))?;
            if scanned > MAX_SCANNED_PIXELS {
                return Err("it has too many scans for its size");
            }
        }
        Ok(())
    }
}

/// The reason why a file is refused.
type Defect = &'static str;

/// An entry of a directory: what it says, by numbers of what type and size, how many and where.
struct Entry {
    tag: u64,
    kind: u64,
    size: usize,
    length: u64,
    place: u64,
}
