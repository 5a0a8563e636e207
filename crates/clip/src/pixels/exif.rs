//! The orientation in EXIF and in the directory of a TIFF, as Pillow reads it.
//!
//! Pillow reads entries in their order, takes the first valid one of a tag, and stops where the data of an entry lies
//! outside the file. So a damaged entry in front of the orientation can hide it, and this reader does the same.

/// The orientation entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The header is not that of a TIFF. Pillow raises an error and consults nothing else.
    Broken,
    /// No entry: XMP decides.
    Nothing,
    /// An entry. Its value may be one that changes nothing.
    Value(u8),
}

/// The first directory of a TIFF.
pub(super) struct Directory<'a> {
    pub orientation: Found,
    /// The XMP packet, which only TIFF files have in a directory.
    pub xmp: Option<&'a [u8]>,
}

const ORIENTATION: u16 = 0x0112;
const XMP: u16 = 700;

/// The orientation that changes nothing.
pub(super) const UPRIGHT: u8 = 1;

/// Returns the orientation of an EXIF block, with or without its name in front.
pub(super) fn orientation(exif: &[u8]) -> Found {
    const NAME: &[u8] = b"Exif\0\0";
    let exif = exif.strip_prefix(NAME).unwrap_or(exif);
    let exif = exif.strip_prefix(NAME).unwrap_or(exif);
    match exif {
        [] => Found::Nothing,
        _ => directory(exif, false).orientation,
    }
}

/// Returns the first directory of `tiff`. BigTIFF is read only if the caller allows it, because Pillow does not read it
/// inside EXIF.
pub(super) fn directory(tiff: &[u8], allow_big: bool) -> Directory<'_> {
    let broken = Directory { orientation: Found::Broken, xmp: None };
    let is_little = match tiff {
        [b'I', b'I', ..] => true,
        [b'M', b'M', ..] => false,
        _ => return broken,
    };
    let is_big = match tiff.get(2..4) {
        Some([42, 0] | [0, 42]) => false,
        // Pillow reads this as an ordinary TIFF.
        Some([0, 43]) if !is_little && !allow_big => false,
        Some([43, 0] | [0, 43]) if allow_big => true,
        _ => return broken,
    };
    let reader = Reader { tiff, is_little, is_big };
    let at = if is_big { reader.number(8, 8) } else { reader.number(4, 4) };
    at.map_or(broken, |at| reader.directory(at))
}

struct Reader<'a> {
    tiff: &'a [u8],
    is_little: bool,
    is_big: bool,
}

impl<'a> Reader<'a> {
    fn slice(&self, at: u64, length: u64) -> Option<&'a [u8]> {
        let at = usize::try_from(at).ok()?;
        self.tiff.get(at..at.checked_add(usize::try_from(length).ok()?)?)
    }

    fn number(&self, at: u64, size: u64) -> Option<u64> {
        self.slice(at, size).map(|digits| self.unsigned(digits))
    }

    fn unsigned(&self, digits: &[u8]) -> u64 {
        let add = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        if self.is_little { digits.iter().rev().fold(0, add) } else { digits.iter().fold(0, add) }
    }

    fn directory(&self, first: u64) -> Directory<'a> {
        let (count_size, entry_size, field) = if self.is_big { (8, 20, 8) } else { (2, 12, 4) };
        let mut found = Directory { orientation: Found::Nothing, xmp: None };
        let mut seen = vec![false; 1 << 16];
        // The total size of data outside entries, which cannot be larger than the file.
        let mut outside: u64 = 0;
        let count = self.number(first, count_size).unwrap_or(0);
        let mut at = first.saturating_add(count_size);
        for _ in 0..count {
            let Some(entry) = self.slice(at, entry_size) else { break };
            let (head, data) = entry.split_at((entry_size - field) as usize);
            let (tag, kind) = (self.unsigned(&head[..2]) as u16, self.unsigned(&head[2..4]));
            let length = self.unsigned(&head[4..]);
            at += entry_size;
            let Some(unit) = unit(kind) else { continue };
            if seen[usize::from(tag)] {
                continue;
            }
            let size = length.saturating_mul(unit);
            let data = if size <= field {
                &data[..size as usize]
            } else {
                outside = outside.saturating_add(size);
                if outside > self.tiff.len() as u64 {
                    continue;
                }
                match self.slice(self.unsigned(data), size) {
                    Some(data) => data,
                    None => break,
                }
            };
            if data.is_empty() {
                continue;
            }
            seen[usize::from(tag)] = true;
            match (tag, kind) {
                (ORIENTATION, _) => found.orientation = Found::Value(self.orientation(kind, &data[..unit as usize])),
                (XMP, 1 | 7) => found.xmp = Some(data),
                _ => {}
            }
        }
        found
    }

    /// Returns the orientation of one value. Bytes and text have none, because Pillow does not read numbers from them.
    fn orientation(&self, kind: u64, value: &[u8]) -> u8 {
        let halves = || value.split_at(value.len() / 2);
        let fraction = |a: i64, b: i64| if b != 0 && a % b == 0 { a / b } else { 0 };
        let number: i64 = match kind {
            3 | 4 | 13 | 16 => self.unsigned(value) as i64,
            6 | 8 | 9 => self.signed(value),
            5 => fraction(self.unsigned(halves().0) as i64, self.unsigned(halves().1) as i64),
            10 => fraction(self.signed(halves().0), self.signed(halves().1)),
            11 => whole(f32::from_bits(self.unsigned(value) as u32).into()),
            12 => whole(f64::from_bits(self.unsigned(value))),
            _ => 0,
        };
        match number {
            1..=8 => number as u8,
            _ => UPRIGHT,
        }
    }

    fn signed(&self, digits: &[u8]) -> i64 {
        let unused = 64 - 8 * digits.len() as u32;
        ((self.unsigned(digits) << unused) as i64) >> unused
    }
}

/// Returns the bytes of one value of a type, or None for types that Pillow skips.
fn unit(kind: u64) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}

fn whole(number: f64) -> i64 {
    if number.fract() == 0.0 { number as i64 } else { 0 }
}
