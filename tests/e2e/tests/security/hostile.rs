//! Pictures that are made to harm: small files that ask for much memory or time. Each is refused or embedded, with half a
//! gigabyte and a quarter of a minute, and the connection lives on.

use std::io::Write;
use std::time::Duration;

use e2e::{Cluster, limit_memory, picture, sqlstate};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use postgres::Client;
use postgres::error::SqlState;

const MEGABYTES: u64 = 512;

const LONGEST: Duration = Duration::from_secs(15);

/// Zeros, so many megabytes of them, compressed.
fn zeros(megabytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &sum.sum().to_be_bytes()].concat()
}

/// A PNG of 8-bit grey with these chunks between its header and its end.
fn png(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunks.concat(), chunk(b"IEND", b"")].concat()
}

fn grey_pixel() -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[0, 128]).unwrap();
    chunk(b"IDAT", &encoder.finish().unwrap())
}

/// An animation of many frames of one pixel.
fn apng(frames: u32) -> Vec<u8> {
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

/// A GIF of so many frames, each of one pixel, on a screen of this size.
fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    framed_gif(width, height, 1, frames)
}

/// A GIF of so many frames of this side, of which there are no more pixels than one.
fn framed_gif(width: u16, height: u16, side: u16, frames: usize) -> Vec<u8> {
    let screen = [&width.to_le_bytes()[..], &height.to_le_bytes(), &[0x80, 0, 0], &[0, 0, 0, 255, 255, 255]].concat();
    let side = side.to_le_bytes();
    let frame = [&b"\x2c\0\0\0\0"[..], &side, &side, b"\0\x02\x02\x44\x01\0"].concat();
    [b"GIF89a".to_vec(), screen, frame.repeat(frames), b";".to_vec()].concat()
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

/// The beginning of a JPEG: its frame, and codes of one bit each, for DC and AC.
fn jpeg(frame: u8, components: u8, width: u16, height: u16, symbols: [u8; 2]) -> Vec<u8> {
    let table = |class: u8, symbol: u8| segment(0xc4, &[&[class, 1][..], &[0; 15], &[symbol]].concat());
    let each: Vec<u8> = (1..=components).flat_map(|number| [number, 0x11, 0]).collect();
    let header = [&[8][..], &height.to_be_bytes(), &width.to_be_bytes(), &[components], &each].concat();
    let quantization = segment(0xdb, &[&[0][..], &[1; 64]].concat());
    [b"\xff\xd8".to_vec(), quantization, segment(frame, &header), table(0, symbols[0]), table(0x10, symbols[1])]
        .concat()
}

/// A progressive JPEG of one component or three, of which each scan says in a hundred bytes that none of a million blocks
/// changes.
fn scans(components: u8, side: u16, count: usize) -> Vec<u8> {
    let blocks = usize::from(side).div_ceil(8).pow(2);
    let each: Vec<u8> = (1..=components).flat_map(|number| [number, 0]).collect();
    // No difference, for DC; a run of 2^14 blocks (14 bits follow), for AC.
    let head = jpeg(0xc2, components, side, side, [0, 0xe0]);
    let of_all = segment(0xda, &[&[components][..], &each, &[0, 0, 0]].concat());
    let first = [of_all, vec![0; (blocks * usize::from(components)).div_ceil(8)]].concat();
    let empty = [segment(0xda, &[1, 1, 0, 1, 63, 0]), vec![0; (blocks.div_ceil(1 << 14) * 15).div_ceil(8)]].concat();
    [head, first, empty.repeat(count), b"\xff\xd9".to_vec()].concat()
}

/// The same, each block of a scan passed one by one.
fn slow_scans(side: u16, count: usize) -> Vec<u8> {
    let scan = |from, to| [segment(0xda, &[1, 1, 0, from, to, 0]), vec![0]].concat();
    [jpeg(0xc2, 1, side, side, [0, 0x0a]), scan(0, 0), scan(1, 63).repeat(count), b"\xff\xd9".to_vec()].concat()
}

/// A JPEG that is not progressive, of which one component comes again and again.
fn repeated_component(count: usize) -> Vec<u8> {
    let scan = |component| [segment(0xda, &[1, component, 0, 0, 63, 0]), vec![0]].concat();
    let scans = [scan(1).repeat(count), scan(2), scan(3)].concat();
    [jpeg(0xc0, 3, u16::MAX, 8, [0, 0]), scans, b"\xff\xd9".to_vec()].concat()
}

/// A TIFF of one directory and of data that begins at [`TIFF_DATA`]; numbers of 16 bits by kind 3, of 32
/// by kind 4.
fn tiff_of(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let entry = |&(tag, kind, count, value): &(u16, u16, u32, u32)| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let count = entries.len() as u16;
    let mut bytes =
        [&b"II*\0\x08\0\0\0"[..], &count.to_le_bytes(), &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat();
    bytes.resize(TIFF_DATA as usize, 0);
    [&bytes, data].concat()
}

const TIFF_DATA: u32 = 512;

/// A TIFF with the dimensions, strips and lengths that it claims.
fn tiff(side: u32, strips: u32, strip_bytes: u32) -> Vec<u8> {
    grey_tiff(side, side, &[(273, 4, strips, 8), (279, 4, 1, strip_bytes), (278, 4, 1, side), (259, 3, 1, 1)], b"")
}

fn self_following_tiff() -> Vec<u8> {
    const NEXT: usize = 8 + 2 + 9 * 12;
    let mut tiff = tiff(1, 1, 1);
    tiff[NEXT] = 8;
    tiff
}

fn grey_tiff(width: u32, height: u32, more: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let grey = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)];
    let mut entries = [&grey[..], more].concat();
    entries.sort_unstable();
    tiff_of(&entries, data)
}

/// A TIFF of a tile of 2^32 - 1 pixels of 65,535 samples each.
fn endless_tile() -> Vec<u8> {
    let tile = [(322, 4, 1, u32::MAX), (323, 4, 1, 8), (324, 4, 1, TIFF_DATA), (325, 4, 1, 64)];
    let more = [(338, 3, 65_532, TIFF_DATA), (259, 3, 1, 1)];
    let colour = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 65_535)];
    let mut entries = [&colour[..], &tile, &more].concat();
    entries.sort_unstable();
    tiff_of(&entries, &[0; 2 * 65_532])
}

/// A TIFF of a thousand strips of a row each, all of which are one JPEG.
fn strips_in_one(strip: &[u8]) -> Vec<u8> {
    const STRIPS: u32 = 1000;
    const JPEG: u32 = 7;
    let (places, lengths) = (TIFF_DATA, TIFF_DATA + 4 * STRIPS);
    let place = (lengths + 4 * STRIPS).to_le_bytes().repeat(STRIPS as usize);
    let length = (strip.len() as u32).to_le_bytes().repeat(STRIPS as usize);
    let more = [(273, 4, STRIPS, places), (279, 4, STRIPS, lengths), (278, 4, 1, 1), (259, 3, 1, JPEG)];
    grey_tiff(8, STRIPS, &more, &[&place, &length, strip].concat())
}

/// A TIFF of one column, whose rows are strips of their own.
fn narrow_tiff(rows: u32, compression: u32, strip: &[u8]) -> Vec<u8> {
    let lengths = TIFF_DATA + 4 * rows;
    let strips = lengths + 4 * rows;
    let length = strip.len() as u32;
    let places: Vec<u8> = (0..rows).flat_map(|row| (strips + row * length).to_le_bytes()).collect();
    let more = [(273, 4, rows, TIFF_DATA), (279, 4, rows, lengths), (278, 4, 1, 1), (259, 3, 1, compression)];
    let data = [places, length.to_le_bytes().repeat(rows as usize), strip.repeat(rows as usize)].concat();
    grey_tiff(1, rows, &more, &data)
}

/// A TIFF of one strip, which begins so, and goes on with the same again and again.
fn striped_tiff(bits: u32, compression: u32, head: &[u8], piece: &[u8]) -> Vec<u8> {
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

/// A Zstandard frame of one byte, which asks for a window of 128 MB.
const WIDE_FRAME: &[u8] = b"\x28\xb5\x2f\xfd\0\x88\x09\0\0a";

/// A TIFF of four inks of 16 bits, without pixels.
fn cmyk_tiff(side: u32) -> Vec<u8> {
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

/// A TIFF of directories that begin every 12 bytes and have 65,535 entries each: most entries are in all of them.
fn overlapping_tiff(directories: usize) -> Vec<u8> {
    const ENTRIES: usize = 65_535;
    let tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)];
    let cell = |number: usize| -> Vec<u8> {
        let (tag, value) = tags[number % tags.len()];
        // Of the first directory's end the next is meant, and so on.
        let next = (number + 1).checked_sub(ENTRIES).filter(|&next| next < directories).unwrap_or(0);
        let pointer = ((8 + 12 * next) as u32).to_le_bytes();
        let entry = [u16::to_le_bytes(tag), u16::to_le_bytes(3)].concat();
        let first = if number < ENTRIES { &entry[..] } else { &pointer[..] };
        [&b"\xff\xff"[..], first, &1_u32.to_le_bytes(), &u16::to_le_bytes(value)].concat()
    };
    [b"II*\0\x08\0\0\0".to_vec(), (0..ENTRIES + directories + 1).flat_map(cell).collect()].concat()
}

fn webp(chunks: &[u8]) -> Vec<u8> {
    [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", chunks].concat()
}

fn plain_webp(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    webp(&[&kind[..], &(data.len() as u32).to_le_bytes(), data].concat())
}

/// A WebP with more chunks after its pixels.
fn extended_webp(more: &[u8]) -> Vec<u8> {
    let extended = b"VP8X\x0a\0\0\0\x08\0\0\0\x3f\0\0\x3f\0\0";
    webp(&[&extended[..], &picture("lossy.webp")[12..], more].concat())
}

/// A lossless WebP whose five codes have one symbol each, of no bits.
fn lossless_webp(side: u32) -> Vec<u8> {
    let dimensions = ((side - 1) | (side - 1) << 14).to_le_bytes();
    plain_webp(b"VP8L", &[&[0x2f][..], &dimensions, &[0x88, 0x88, 0x08], &[0; 16]].concat())
}

/// A lossy WebP in which zeros mean: no settings, each block as predicted, no coefficients.
fn lossy_webp(side: u16) -> Vec<u8> {
    const MOST: usize = (1 << 19) - 1;
    let tag = (1_u32 << 4 | (MOST as u32) << 5).to_le_bytes();
    let head = [&tag[..3], b"\x9d\x01\x2a", &side.to_le_bytes(), &side.to_le_bytes()].concat();
    plain_webp(b"VP8 ", &[head, vec![0; MOST + (1 << 20)]].concat())
}

/// A grey PNG that lies on its side.
fn lying_png(side: u32) -> Vec<u8> {
    let orientation = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let megabytes = (side * (side + 1)).div_ceil(1 << 20) as usize;
    png(side, side, &[chunk(b"eXIf", orientation), chunk(b"IDAT", &zeros(megabytes))])
}

/// A WebP whose EXIF says that it has nearly four gigabytes.
fn webp_with_endless_exif() -> Vec<u8> {
    extended_webp(b"EXIF\xf0\xff\xff\xee\0")
}

/// A WebP of 64 x 64 whose frame says that it is of this side.
fn framed_webp(side: u16) -> Vec<u8> {
    let mut webp = extended_webp(b"");
    let frame = webp.windows(3).position(|bytes| bytes == b"\x9d\x01\x2a").unwrap() + 3;
    webp[frame..frame + 4].copy_from_slice(&side.to_le_bytes().repeat(2));
    webp
}

fn bmp(width: i32, height: i32) -> Vec<u8> {
    let header =
        [&40_u32.to_le_bytes()[..], &width.to_le_bytes(), &height.to_le_bytes(), b"\x01\0\x18\0", &[0; 24]].concat();
    [&b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0"[..], &header, &[0; 16]].concat()
}

/// Each order leads a line up, and the last beyond the end.
fn jumping_bmp(side: u16) -> Vec<u8> {
    let side = u32::from(side).to_le_bytes();
    let header = [&40_u32.to_le_bytes()[..], &side, &side, b"\x01\0\x08\0\x01\0\0\0", &[0; 20]].concat();
    [&b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0"[..], &header, &[0; 1024], &b"\0\x02\xff\x01".repeat(7900)].concat()
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let named = |data: Vec<u8>| [b"x\0\0".to_vec(), data].concat();
    let profile = chunk(b"iCCP", &named(zeros(1024)));
    let text = chunk(b"zTXt", &named(zeros(1024)));
    let raw_profile = chunk(b"zTXt", &[b"Raw profile type exif\0\0".to_vec(), zeros(1)].concat());
    // Its directory has 65535 entries, whose data is outside.
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
        // The most that the decoder takes.
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

/// Refused by name, or done.
fn check(result: Result<u64, postgres::Error>, what: &str) {
    if let Err(error) = result {
        let refusals =
            [&SqlState::INVALID_BINARY_REPRESENTATION, &SqlState::PROGRAM_LIMIT_EXCEEDED, &SqlState::OUT_OF_MEMORY];
        assert!(refusals.contains(&sqlstate(&error)), "{what}: {error:?}");
    }
}

fn limited(cluster: &Cluster) -> (Client, i32) {
    let mut client = cluster.connect();
    client.batch_execute("SET statement_timeout = '30s'; SELECT clip_prewarm('narrow', 'image')").unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    limit_memory(pid, Some(MEGABYTES));
    (client, pid)
}

#[test]
fn bombs_do_no_harm() {
    let cluster = Cluster::start();
    let (mut client, pid) = limited(&cluster);
    for (what, bytes) in bombs() {
        let begun = std::time::Instant::now();
        check(client.execute("SELECT * FROM clip_image_info($1)", &[&bytes]), what);
        check(client.execute("SELECT clip_embed_image($1, 'narrow')", &[&bytes]), what);
        println!("{what}: {} bytes, {:?}", bytes.len(), begun.elapsed());
        assert!(begun.elapsed() < LONGEST, "{what}: {:?}", begun.elapsed());
    }
    assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get::<_, i32>(0), pid);
    client.execute("SELECT clip_embed_image($1, 'narrow')", &[&picture("rgb_444.jpg")]).unwrap();
    let frames = |client: &mut Client, bytes: &[u8]| -> i32 {
        client.query_one("SELECT frames FROM clip_image_info($1)", &[&bytes]).unwrap().get(0)
    };
    assert_eq!(frames(&mut client, &apng(10_000)), 10_000);
    assert_eq!(frames(&mut client, &gif(1, 1, 100_000)), 100_000);
    assert_eq!(frames(&mut client, &overlapping_tiff(60_000)), 60_000);
}

/// Ask with more and more memory, until it is done three times. What does not fit is refused, the connection lives on.
fn ask_until_it_fits(cluster: &Cluster, step: usize, call: &str, what: &str, bytes: &[u8]) {
    let (mut client, pid) = limited(cluster);
    let (mut refused, mut done) = (0, 0);
    for megabytes in (0..1300).step_by(step) {
        if done == 3 {
            break;
        }
        limit_memory(pid, Some(megabytes));
        match client.execute(&format!("SELECT {call}"), &[&bytes]) {
            Err(error) if sqlstate(&error) == &SqlState::OUT_OF_MEMORY => refused += 1,
            Err(error) if sqlstate(&error) == &SqlState::INVALID_BINARY_REPRESENTATION => done += 1,
            Ok(_) => done += 1,
            Err(error) => panic!("{what}, {call}, {megabytes} MB: {error:?}"),
        }
    }
    assert!(refused > 2 && done == 3, "{what}, {call}: {refused} refused, {done} done: the limits prove nothing");
}

#[test]
fn large_pictures_are_refused_where_they_do_not_fit() {
    const SIDE: u16 = 7900;
    let cluster = Cluster::start();
    for (what, bytes) in [
        ("a progressive JPEG in colour", scans(3, SIDE, 3)),
        ("a grey progressive JPEG", scans(1, SIDE, 3)),
        ("a lossless WebP", lossless_webp(SIDE.into())),
        ("a lossy WebP", lossy_webp(SIDE)),
        ("a PNG that lies on its side", lying_png(SIDE.into())),
        ("a GIF of a frame that is larger than its screen", framed_gif(4000, 4000, 6900, 1)),
        ("a TIFF of four inks of 16 bits", cmyk_tiff(SIDE.into())),
    ] {
        ask_until_it_fits(&cluster, 40, "clip_embed_image($1, 'narrow')", what, &bytes);
    }
    cluster.assert_no_crash();
}

#[test]
fn large_headers_are_refused_where_they_do_not_fit() {
    const MANY: usize = 8_000_000;
    let cluster = Cluster::start();
    let jpeg = picture("rgb_444.jpg");
    let profile = [&b"\xff\xe2\xff\xffICC_PROFILE\0\x01\xff"[..], &[0; 65519]].concat().repeat(255);
    let texts = [chunk(b"tEXt", b"a\0b").repeat(MANY / 20), grey_pixel()];
    for (what, bytes) in [
        ("a JPEG with a colour profile", [&jpeg[..2], &profile, &jpeg[2..]].concat()),
        ("a PNG with many texts", png(1, 1, &texts)),
        ("a PNG with EXIF", png(1, 1, &[chunk(b"eXIf", &[0; MANY]), grey_pixel()])),
        ("a WebP with EXIF", extended_webp(&[&b"EXIF"[..], &(MANY as u32).to_le_bytes(), &[0; MANY]].concat())),
        ("a WebP of many chunks", extended_webp(&(0..MANY as u64 / 8).flat_map(u64::to_be_bytes).collect::<Vec<_>>())),
        ("a TIFF of many strips", tiff(1, MANY as u32, 1)),
    ] {
        ask_until_it_fits(&cluster, 8, "clip_embed_image($1, 'narrow')", what, &bytes);
        ask_until_it_fits(&cluster, 8, "clip_image_info($1)", what, &bytes);
    }
    cluster.assert_no_crash();
}

#[test]
fn a_gigabyte_is_refused_unread() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    // As large as a value can be.
    for (kind, value) in
        [("bytea", "convert_to(repeat('x', (1 << 30) - 100), 'SQL_ASCII')"), ("text", "repeat('x', (1 << 30) - 100)")]
    {
        client.batch_execute(&format!("CREATE TABLE big_{kind} AS SELECT {value} AS value")).unwrap();
    }
    let (mut client, _) = limited(&cluster);
    for call in [
        "clip_embed_image(value, 'narrow') FROM big_bytea",
        "clip_image_info(value) FROM big_bytea",
        "clip_embed_text(value, 'narrow') FROM big_text",
        "clip_token_count(value, 'narrow') FROM big_text",
    ] {
        let error = client.batch_execute(&format!("SELECT {call}")).unwrap_err();
        assert_eq!(sqlstate(&error), &SqlState::PROGRAM_LIMIT_EXCEEDED, "{call}");
    }
}

#[test]
fn labels_and_templates_that_multiply_are_refused() {
    let cluster = Cluster::start();
    let (mut client, pid) = limited(&cluster);
    for (labels, templates, expected) in [
        ("ARRAY[repeat('a', 1048576)]", "ARRAY[repeat('{}', 524288)]", SqlState::PROGRAM_LIMIT_EXCEEDED),
        ("ARRAY[repeat('a', 1048576)]", "array_fill('{}'::text, ARRAY[1000000])", SqlState::INVALID_PARAMETER_VALUE),
        ("ARRAY[repeat('a', 1048570)]", "ARRAY['a photo of a {}']", SqlState::PROGRAM_LIMIT_EXCEEDED),
    ] {
        let classify = format!("SELECT clip_classify(clip_embed_text('a', 'emoji'), {labels}, {templates}, 'emoji')");
        let error = client.batch_execute(&classify).unwrap_err();
        assert_eq!(sqlstate(&error), &expected, "{classify}: {error:?}");
    }
    assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get::<_, i32>(0), pid);
}
