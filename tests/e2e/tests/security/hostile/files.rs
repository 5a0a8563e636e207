//! Images that claim more than they are.

use super::*;

/// Returns that many megabytes of zeros, compressed.
pub fn zeros(megabytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap()
}

pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &sum.sum().to_be_bytes()].concat()
}

/// Returns a PNG of 8-bit gray with these chunks between its header and its end.
pub fn png(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunks.concat(), chunk(b"IEND", b"")].concat()
}

pub fn grey_pixel() -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[0, 128]).unwrap();
    chunk(b"IDAT", &encoder.finish().unwrap())
}

/// Returns an animation of many frames of one pixel.
pub fn apng(frames: u32) -> Vec<u8> {
    let pixel = grey_pixel();
    let data = &pixel[8..pixel.len() - 4];
    let control = |number: u32| {
        let one = 1_u32.to_be_bytes();
        chunk(b"fcTL", &[&number.to_be_bytes()[..], &one, &one, &[0; 8], &[0, 1, 0, 1, 0, 0]].concat())
    };
    let mut chunks = vec![chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat()), control(0), grey_pixel()];
    for frame in 1..frames {
        chunks.push(control(frame * 2 - 1));
        chunks.push(chunk(b"fdAT", &[&(frame * 2).to_be_bytes()[..], data].concat()));
    }
    png(1, 1, &chunks)
}

/// Returns a GIF with that many frames of one pixel, on a screen of this size.
pub fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    framed_gif(width, height, 1, frames)
}

/// Returns a GIF with that many frames of this side. Each frame has the data of only one pixel.
pub fn framed_gif(width: u16, height: u16, side: u16, frames: usize) -> Vec<u8> {
    let screen = [&width.to_le_bytes()[..], &height.to_le_bytes(), &[0x80, 0, 0], &[0, 0, 0, 255, 255, 255]].concat();
    let side = side.to_le_bytes();
    let frame = [&b"\x2c\0\0\0\0"[..], &side, &side, b"\0\x02\x02\x44\x01\0"].concat();
    [b"GIF89a".to_vec(), screen, frame.repeat(frames), b";".to_vec()].concat()
}

pub fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

/// Returns the beginning of a JPEG: its frame, and codes of one bit each, for DC and AC.
pub fn jpeg(frame: u8, components: u8, width: u16, height: u16, symbols: [u8; 2]) -> Vec<u8> {
    let table = |class: u8, symbol: u8| segment(0xc4, &[&[class, 1][..], &[0; 15], &[symbol]].concat());
    let each: Vec<u8> = (1..=components).flat_map(|number| [number, 0x11, 0]).collect();
    let header = [&[8][..], &height.to_be_bytes(), &width.to_be_bytes(), &[components], &each].concat();
    let quantization = segment(0xdb, &[&[0][..], &[1; 64]].concat());
    [b"\xff\xd8".to_vec(), quantization, segment(frame, &header), table(0, symbols[0]), table(0x10, symbols[1])]
        .concat()
}

/// Returns a progressive JPEG of one component or three. In each scan, a hundred bytes state that none of a million
/// blocks changes.
pub fn scans(components: u8, side: u16, count: usize) -> Vec<u8> {
    let blocks = usize::from(side).div_ceil(8).pow(2);
    let each: Vec<u8> = (1..=components).flat_map(|number| [number, 0]).collect();
    // For DC, the symbol means no difference. For AC, it means a run of 2^14 blocks (14 bits follow).
    let head = jpeg(0xc2, components, side, side, [0, 0xe0]);
    let of_all = segment(0xda, &[&[components][..], &each, &[0, 0, 0]].concat());
    let first = [of_all, vec![0; (blocks * usize::from(components)).div_ceil(8)]].concat();
    let empty = [segment(0xda, &[1, 1, 0, 1, 63, 0]), vec![0; (blocks.div_ceil(1 << 14) * 15).div_ceil(8)]].concat();
    [head, first, empty.repeat(count), b"\xff\xd9".to_vec()].concat()
}

/// Like [`scans`], but each block of a scan is skipped one by one.
pub fn slow_scans(side: u16, count: usize) -> Vec<u8> {
    let scan = |from, to| [segment(0xda, &[1, 1, 0, from, to, 0]), vec![0]].concat();
    [jpeg(0xc2, 1, side, side, [0, 0x0a]), scan(0, 0), scan(1, 63).repeat(count), b"\xff\xd9".to_vec()].concat()
}

/// Returns a sequential JPEG that repeats one component many times.
pub fn repeated_component(count: usize) -> Vec<u8> {
    let scan = |component| [segment(0xda, &[1, component, 0, 0, 63, 0]), vec![0]].concat();
    let scans = [scan(1).repeat(count), scan(2), scan(3)].concat();
    [jpeg(0xc0, 3, u16::MAX, 8, [0, 0]), scans, b"\xff\xd9".to_vec()].concat()
}

/// A Zstandard frame of one byte that requests a window of 128 MB.
pub const WIDE_FRAME: &[u8] = b"\x28\xb5\x2f\xfd\0\x88\x09\0\0a";

pub fn webp(chunks: &[u8]) -> Vec<u8> {
    [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", chunks].concat()
}

pub fn plain_webp(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    webp(&[&kind[..], &(data.len() as u32).to_le_bytes(), data].concat())
}

/// Returns a WebP with more chunks after its pixels.
pub fn extended_webp(more: &[u8]) -> Vec<u8> {
    let extended = b"VP8X\x0a\0\0\0\x08\0\0\0\x3f\0\0\x3f\0\0";
    webp(&[&extended[..], &picture("lossy.webp")[12..], more].concat())
}

/// Returns a lossless WebP whose five codes have one symbol of zero bits each.
pub fn lossless_webp(side: u32) -> Vec<u8> {
    let dimensions = ((side - 1) | (side - 1) << 14).to_le_bytes();
    plain_webp(b"VP8L", &[&[0x2f][..], &dimensions, &[0x88, 0x88, 0x08], &[0; 16]].concat())
}

/// Returns a lossy WebP in which zeros mean: no settings, each block as predicted, no coefficients.
pub fn lossy_webp(side: u16) -> Vec<u8> {
    const MOST: usize = (1 << 19) - 1;
    let tag = (1_u32 << 4 | (MOST as u32) << 5).to_le_bytes();
    let head = [&tag[..3], b"\x9d\x01\x2a", &side.to_le_bytes(), &side.to_le_bytes()].concat();
    plain_webp(b"VP8 ", &[head, vec![0; MOST + (1 << 20)]].concat())
}

/// Returns a gray PNG with an EXIF orientation of 90 degrees.
pub fn lying_png(side: u32) -> Vec<u8> {
    let orientation = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let megabytes = (side * (side + 1)).div_ceil(1 << 20) as usize;
    png(side, side, &[chunk(b"eXIf", orientation), chunk(b"IDAT", &zeros(megabytes))])
}

/// Returns a WebP whose EXIF chunk claims a size of nearly four gigabytes.
pub fn webp_with_endless_exif() -> Vec<u8> {
    extended_webp(b"EXIF\xf0\xff\xff\xee\0")
}

/// Returns a WebP of 64 x 64 whose frame claims this side.
pub fn framed_webp(side: u16) -> Vec<u8> {
    let mut webp = extended_webp(b"");
    let frame = webp.windows(3).position(|bytes| bytes == b"\x9d\x01\x2a").unwrap() + 3;
    webp[frame..frame + 4].copy_from_slice(&side.to_le_bytes().repeat(2));
    webp
}

pub fn bmp(width: i32, height: i32) -> Vec<u8> {
    let header =
        [&40_u32.to_le_bytes()[..], &width.to_le_bytes(), &height.to_le_bytes(), b"\x01\0\x18\0", &[0; 24]].concat();
    [&b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0"[..], &header, &[0; 16]].concat()
}

/// Returns a BMP in which each command moves a line up, and the last one moves beyond the end.
pub fn jumping_bmp(side: u16) -> Vec<u8> {
    let side = u32::from(side).to_le_bytes();
    let header = [&40_u32.to_le_bytes()[..], &side, &side, b"\x01\0\x08\0\x01\0\0\0", &[0; 20]].concat();
    [&b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0"[..], &header, &[0; 1024], &b"\0\x02\xff\x01".repeat(7900)].concat()
}

pub fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let named = |data: Vec<u8>| [b"x\0\0".to_vec(), data].concat();
    let profile = chunk(b"iCCP", &named(zeros(1024)));
    let text = chunk(b"zTXt", &named(zeros(1024)));
    let raw_profile = chunk(b"zTXt", &[b"Raw profile type exif\0\0".to_vec(), zeros(1)].concat());
    // The EXIF directory claims 65535 entries, whose data is outside.
    let exif = segment(0xe1, &[&b"Exif\0\0II*\0\x08\0\0\0\xff\xff"[..], &[1; 65_000]].concat());
    let international = chunk(b"iTXt", &[b"x\0\x01\0\0\0".to_vec(), zeros(1024)].concat());
    vec![
        ("a PNG of 65535 x 65535", png(65535, 65535, &[grey_pixel()])),
        ("a PNG of 2^31 - 1 squared", png(i32::MAX as u32, i32::MAX as u32, &[grey_pixel()])),
        ("a PNG whose pixels are a bomb", png(7900, 7900, &[chunk(b"IDAT", &zeros(1024))])),
        ("a PNG with a colour profile of a gigabyte", png(1, 1, &[profile, grey_pixel()])),
        ("a PNG with a text of a gigabyte", png(1, 1, &[text.clone(), grey_pixel()])),
        ("a PNG with ten such texts", png(1, 1, &[text.repeat(10), grey_pixel()])),
        ("a PNG with an international text of a gigabyte", png(1, 1, &[international, grey_pixel()])),
        ("a PNG with 100,000 empty chunks", png(1, 1, &[chunk(b"tEXt", b"a\0b").repeat(100_000), grey_pixel()])),
        ("an animated PNG of 10,000 frames", apng(10_000)),
        ("an animated PNG that says it has 2^32 - 1 frames", png(1, 1, &[chunk(b"acTL", &[255; 8]), grey_pixel()])),
        ("a PNG with 20,000 profiles of a megabyte", png(1, 1, &[raw_profile.repeat(20_000), grey_pixel()])),
        (
            "a JPEG with EXIF in 300 segments",
            [b"\xff\xd8".to_vec(), exif.repeat(300), scans(1, 64, 1)[2..].to_vec()].concat(),
        ),
        ("a document of a million comments", [b"<?xml?>".to_vec(), b"<!---->\n".repeat(1_000_000)].concat()),
        ("a BMP of runs that jump to the end", jumping_bmp(7900)),
        ("a GIF of 65535 x 65535", gif(65535, 65535, 1)),
        ("a GIF of 30000 x 30000", gif(30000, 30000, 1)),
        ("a GIF of 100,000 frames", gif(1, 1, 100_000)),
        ("a progressive JPEG of 10,000 scans", scans(1, 64, 10_000)),
        ("a large progressive JPEG of 10 scans", scans(1, 7900, 10)),
        // The largest number of scans that the decoder accepts.
        ("a large progressive JPEG of 99 scans", scans(1, 7900, 99)),
        ("a large progressive JPEG of 1,000 scans", scans(1, 7900, 1_000)),
        ("a large progressive JPEG of 99 scans of small blocks", slow_scans(7900, 99)),
        ("a JPEG of 300,000 scans of one component", repeated_component(300_000)),
        ("a TIFF of an endless tile", endless_tile()),
        ("a TIFF whose strips are one large JPEG", strips_in_one(&scans(1, 3000, 3))),
        (
            "a TIFF of a small picture in a large JPEG",
            grey_tiff(
                1,
                1,
                &[(259, 3, 1, 7), (273, 4, 1, TIFF_DATA), (278, 4, 1, 1), (279, 4, 1, 1 << 20)],
                &scans(1, 16_000, 3),
            ),
        ),
        ("a WebP of a frame of 16383 x 16383", framed_webp(16_383)),
        ("a GIF of a frame of 60000 x 60000", framed_gif(1, 1, 60_000, 1)),
        ("a TIFF that is followed by itself", self_following_tiff()),
        ("a TIFF of 60,000 directories in one another", overlapping_tiff(60_000)),
        ("a TIFF with a strip of 4 GB", tiff(7900, 1, u32::MAX)),
        ("a TIFF of 2^32 - 1 squared", tiff(u32::MAX, 1, 16)),
        ("a TIFF of 250,000 strips of Deflate", narrow_tiff(250_000, 8, b"\x78\x9c\x4b\x04\0\0\x62\0\x62")),
        ("a TIFF of 250,000 strips of Zstandard", narrow_tiff(250_000, 50_000, WIDE_FRAME)),
        ("a TIFF of 300,000 strips", narrow_tiff(300_000, 32_773, b"\0a")),
        ("a TIFF of a Deflate stream without pixels", striped_tiff(8, 8, b"\x78\x9c", b"\0\0\0\xff\xff")),
        ("a fax without ends of lines", striped_tiff(1, 3, b"", b"\xff")),
        ("a fax without codes", striped_tiff(1, 3, b"", b"\0")),
        ("a fax of rows of single pixels", striped_tiff(1, 4, b"", b"\x26\xa6")),
        ("a WebP with EXIF of 4 GB", webp_with_endless_exif()),
        ("a BMP of 2^31 - 1 by -2^31", bmp(i32::MAX, i32::MIN)),
        ("a BMP of 7900 x 7900 with no pixels", bmp(7900, 7900)),
    ]
}
