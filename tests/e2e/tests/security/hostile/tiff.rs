//! TIFF files that claim more than they are.

/// Returns a TIFF of one directory, and of data that begins at [`TIFF_DATA`]. Kind 3 is a number of 16 bits, kind 4 a
/// number of 32 bits.
pub fn tiff_of(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let entry = |&(tag, kind, count, value): &(u16, u16, u32, u32)| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let count = entries.len() as u16;
    let mut bytes =
        [&b"II*\0\x08\0\0\0"[..], &count.to_le_bytes(), &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat();
    bytes.resize(TIFF_DATA as usize, 0);
    [&bytes, data].concat()
}

pub const TIFF_DATA: u32 = 512;

/// Returns a TIFF that claims these dimensions, strips and lengths.
pub fn tiff(side: u32, strips: u32, strip_bytes: u32) -> Vec<u8> {
    grey_tiff(side, side, &[(273, 4, strips, 8), (279, 4, 1, strip_bytes), (278, 4, 1, side), (259, 3, 1, 1)], b"")
}

pub fn self_following_tiff() -> Vec<u8> {
    const NEXT: usize = 8 + 2 + 9 * 12;
    let mut tiff = tiff(1, 1, 1);
    tiff[NEXT] = 8;
    tiff
}

pub fn grey_tiff(width: u32, height: u32, more: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let grey = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)];
    let mut entries = [&grey[..], more].concat();
    entries.sort_unstable();
    tiff_of(&entries, data)
}

/// Returns a TIFF of one tile of 2^32 - 1 pixels with 65,535 samples each.
pub fn endless_tile() -> Vec<u8> {
    let tile = [(322, 4, 1, u32::MAX), (323, 4, 1, 8), (324, 4, 1, TIFF_DATA), (325, 4, 1, 64)];
    let more = [(338, 3, 65_532, TIFF_DATA), (259, 3, 1, 1)];
    let colour = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 65_535)];
    let mut entries = [&colour[..], &tile, &more].concat();
    entries.sort_unstable();
    tiff_of(&entries, &[0; 2 * 65_532])
}

/// Returns a TIFF of a thousand strips of one row each. All strips are the same JPEG.
pub fn strips_in_one(strip: &[u8]) -> Vec<u8> {
    const STRIPS: u32 = 1000;
    const JPEG: u32 = 7;
    let (places, lengths) = (TIFF_DATA, TIFF_DATA + 4 * STRIPS);
    let place = (lengths + 4 * STRIPS).to_le_bytes().repeat(STRIPS as usize);
    let length = (strip.len() as u32).to_le_bytes().repeat(STRIPS as usize);
    let more = [(273, 4, STRIPS, places), (279, 4, STRIPS, lengths), (278, 4, 1, 1), (259, 3, 1, JPEG)];
    grey_tiff(8, STRIPS, &more, &[&place, &length, strip].concat())
}

/// Returns a TIFF of one column. Each row is a strip.
pub fn narrow_tiff(rows: u32, compression: u32, strip: &[u8]) -> Vec<u8> {
    let lengths = TIFF_DATA + 4 * rows;
    let strips = lengths + 4 * rows;
    let length = strip.len() as u32;
    let places: Vec<u8> = (0..rows).flat_map(|row| (strips + row * length).to_le_bytes()).collect();
    let more = [(273, 4, rows, TIFF_DATA), (279, 4, rows, lengths), (278, 4, 1, 1), (259, 3, 1, compression)];
    let data = [places, length.to_le_bytes().repeat(rows as usize), strip.repeat(rows as usize)].concat();
    grey_tiff(1, rows, &more, &data)
}

/// Returns a TIFF of one strip, which begins with `head` and repeats `piece`.
pub fn striped_tiff(bits: u32, compression: u32, head: &[u8], piece: &[u8]) -> Vec<u8> {
    let side = 7900;
    let data = [head, &piece.repeat(8_000_000 / piece.len())].concat();
    tiff_of(
        &[
            (256, 4, 1, side),
            (257, 4, 1, side),
            (258, 3, 1, bits),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (273, 4, 1, TIFF_DATA),
            (277, 3, 1, 1),
            (278, 4, 1, side),
            (279, 4, 1, data.len() as u32),
        ],
        &data,
    )
}

/// Returns a TIFF of four inks of 16 bits, without pixels.
pub fn cmyk_tiff(side: u32) -> Vec<u8> {
    let bits = 16_u16.to_le_bytes().repeat(4);
    tiff_of(
        &[
            (256, 4, 1, side),
            (257, 4, 1, side),
            (258, 3, 4, TIFF_DATA),
            (259, 3, 1, 1),
            (262, 3, 1, 5),
            (273, 4, 1, TIFF_DATA),
            (277, 3, 1, 4),
            (278, 4, 1, side),
            (279, 4, 1, 8),
        ],
        &bits,
    )
}

/// Returns a TIFF of directories that begin every 12 bytes and have 65,535 entries each: most entries are in all of
/// them.
pub fn overlapping_tiff(directories: usize) -> Vec<u8> {
    const ENTRIES: usize = 65_535;
    let tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)];
    let cell = |number: usize| -> Vec<u8> {
        let (tag, value) = tags[number % tags.len()];
        // The end of the first directory points to the second one, and so on.
        let next = (number + 1).checked_sub(ENTRIES).filter(|&next| next < directories).unwrap_or(0);
        let pointer = ((8 + 12 * next) as u32).to_le_bytes();
        let entry = [u16::to_le_bytes(tag), u16::to_le_bytes(3)].concat();
        let first = if number < ENTRIES { &entry[..] } else { &pointer[..] };
        [&b"\xff\xff"[..], first, &1_u32.to_le_bytes(), &u16::to_le_bytes(value)].concat()
    };
    [b"II*\0\x08\0\0\0".to_vec(), (0..ENTRIES + directories + 1).flat_map(cell).collect()].concat()
}
