//! The strips or tiles of a page: where they are in the image and in the file.

use crate::pixels::tiff::directory::{Entry, Tiff, tag};
use crate::pixels::tiff::error::Result;

/// The chunks of a page, all of one size: row by row, and plane after plane.
pub(in crate::pixels) struct Chunks<'a> {
    pub file: Tiff<'a>,
    pub width: u32,
    /// Rows of a chunk, no more than the page has.
    pub height: u32,
    /// Rows of a tile as it is stored.
    pub stored_height: u32,
    pub across: u64,
    pub down: u64,
    places: Entry<'a>,
    lengths: Option<Entry<'a>>,
}

/// A chunk, as far as it is in the image.
pub(super) struct Chunk {
    /// Its number among those of a plane.
    pub index: u64,
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl<'a> Chunks<'a> {
    pub(super) fn read(file: Tiff<'a>, width: u32, height: u32) -> Result<Self> {
        let side = |tag, default: u32| -> Result<u32> {
            Ok(u32::try_from(file.first(tag, default.into())?).unwrap_or(u32::MAX))
        };
        let tile = (side(tag::TILE_WIDTH, 0)?, side(tag::TILE_HEIGHT, 0)?);
        let of_strips = [tag::STRIP_PLACES, tag::STRIP_LENGTHS].map(|tag| file.entry(tag));
        let of_tiles = [tag::TILE_PLACES, tag::TILE_LENGTHS].map(|tag| file.entry(tag));
        let (chunk, [places, lengths]) = match (tile.0 > 0 || of_strips[0].is_none(), of_tiles[0]) {
            (true, Some(_)) => (tile, of_tiles),
            // Some writers name the places of tiles as those of strips.
            (true, None) => (tile, of_strips),
            (false, _) => ((width, side(tag::STRIP_ROWS, height)?.min(height)), of_strips),
        };
        let places = places.ok_or("it has neither strips nor tiles")?;
        if chunk.0 == 0 || chunk.1 == 0 {
            return Err("its strips or tiles are empty");
        }
        let (across, down) = (width.div_ceil(chunk.0).into(), height.div_ceil(chunk.1).into());
        Ok(Self {
            file,
            width: chunk.0,
            height: chunk.1.min(height),
            stored_height: chunk.1,
            across,
            down,
            places,
            lengths,
        })
    }

    /// Returns the number of chunks of one plane.
    pub(super) fn count(&self) -> u64 {
        self.across * self.down
    }

    /// Returns the chunks of one plane of a page of such a size.
    pub(super) fn iter(&self, width: u32, height: u32) -> impl Iterator<Item = Chunk> {
        let starts = |length: u32, side: u32| (0..length).step_by(side as usize);
        let places =
            starts(height, self.height).flat_map(move |top| starts(width, self.width).map(move |left| (left, top)));
        (0..).zip(places).map(move |(index, (left, top))| Chunk {
            index,
            left,
            top,
            width: self.width.min(width - left),
            height: self.height.min(height - top),
        })
    }

    /// Returns the length of a chunk, if the file gives it.
    pub(super) fn length(&self, index: u64) -> Option<u64> {
        self.lengths.and_then(|lengths| lengths.value(index).ok())
    }

    /// Returns the bytes of a chunk, and all that follows in the file.
    pub(super) fn bytes_from(&self, index: u64) -> Result<&'a [u8]> {
        let place = usize::try_from(self.places.value(index)?).unwrap_or(usize::MAX);
        self.file.0.get(place..).ok_or("a strip or tile is outside the file")
    }

    /// Returns the bytes of a chunk. If the file gives no length, they end where the next chunk begins, or with the
    /// file: a decoder stops when it has all pixels.
    pub(super) fn bytes(&self, index: u64) -> Result<&'a [u8]> {
        let rest = self.bytes_from(index)?;
        let length = match self.length(index) {
            Some(0) if self.places.length == 1 => None,
            Some(length) => Some(length),
            None => {
                let next = self.places.value(index + 1).unwrap_or(u64::MAX);
                next.checked_sub(self.places.value(index)?)
            }
        };
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        Ok(rest.get(..length).unwrap_or(rest))
    }
}
