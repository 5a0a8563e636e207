//! The containers of pictures, walked without their decoders: what these would set aside before a pixel is decoded, and
//! what they would walk for ever.

use std::collections::HashSet;

use crate::pixels::header::Format;

/// Memory for what comes before the pixels: colour profiles, EXIF and text, which can be compressed bombs.
pub(super) const HEADER_BYTES: u64 = 16 * 1024 * 1024;

/// The most that a decoder takes to read a header. Decoders allocate as they please.
pub(super) fn bytes_to_open(bytes: &[u8], format: Format) -> u64 {
    /// A text of a PNG, however short: its place in a list that grows, and up to four strings.
    const PNG_TEXT: u64 = 512;
    /// A chunk of a WebP: its place in a table that grows.
    const WEBP_CHUNK: u64 = 128;
    /// A number in a directory of a TIFF: 32 bytes as it is read and 8 as it is kept, of which there are two lists.
    const TIFF_NUMBER: u64 = 64;
    let listed = match format {
        Format::Png => {
            PNG_TEXT * png_chunks(bytes).filter(|kind| matches!(*kind, b"tEXt" | b"zTXt" | b"iTXt")).count() as u64
        }
        Format::WebP => WEBP_CHUNK * webp_chunks(bytes).count() as u64,
        Format::Tiff => TIFF_NUMBER * Tiff(bytes).longest_list(),
        Format::Jpeg | Format::Gif | Format::Bmp => 0,
    };
    // What is read whole, or in pieces that come to no more, is copied once more as it is handed on.
    2 * (bytes.len() as u64 + HEADER_BYTES) + listed
}

/// The kinds of the chunks of a PNG, as far as they are inside.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const SIGNATURE: usize = 8;
    const SUM: usize = 4;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&length, content) = rest.split_first_chunk()?;
        let (kind, content) = content.split_at_checked(4)?;
        rest = content.get((u32::from_be_bytes(length) as usize).saturating_add(SUM)..).unwrap_or_default();
        Some(kind)
    })
}

/// For each chunk of a WebP, whether it ends within it.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = bool> {
    const CONTAINER: usize = 12;
    const HEADER: usize = 8;
    let mut rest = bytes.get(CONTAINER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (header, content) = rest.split_at_checked(HEADER)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let after = content.get(length..);
        // Chunks begin at even places.
        rest = after.and_then(|after| after.get(length % 2..)).unwrap_or_default();
        Some(after.is_some())
    })
}

/// Whether the chunks of a WebP end within it.
pub(super) fn are_webp_chunks_inside(bytes: &[u8]) -> bool {
    webp_chunks(bytes).all(|inside| inside)
}

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

    /// How many numbers the longest list of the first directory says it has, of those that tell how the pixels are stored.
    /// Others, such as colour profiles, are not read.
    fn longest_list(&self) -> u64 {
        /// The decoder refuses longer ones.
        const MOST: u64 = 8 * 1024 * 1024;
        const TEXT: u64 = 2;
        let first = self.directory(4).unwrap_or(u64::MAX);
        let entries = self.number(first, Self::COUNT).unwrap_or(0);
        let list = |entry: u64| {
            let at = first + Self::COUNT as u64 + entry * Self::ENTRY;
            Some((self.number(at, 2)?, self.number(at + 2, 2)?, self.number(at + 4, 4)?))
        };
        let of_pixels = |&(tag, kind, _): &(u64, u64, u64)| matches!(tag, 256..=347 | 530) && kind != TEXT;
        let longest = (0..entries).map_while(list).filter(of_pixels).map(|(.., length)| length).max();
        longest.unwrap_or(0).min(MOST)
    }
}
