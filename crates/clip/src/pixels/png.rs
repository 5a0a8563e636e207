//! The chunks of a PNG: those that its decoder needs, and the metadata with its orientation.
//! External crates: `crc32fast`, `flate2`.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

use flate2::read::ZlibDecoder;

use crate::error::Error;
use crate::memory::reserve;
use crate::pixels::format::{Format, TRUNCATED, undecodable};
use crate::pixels::metadata::{Exif, Metadata};

const SIGNATURE: usize = 8;
/// The length and the kind in front of a chunk's content.
const HEAD: usize = 8;
/// The checksum after it.
const SUM: usize = 4;

/// One chunk. In a truncated file its content may be shorter than its length.
struct Chunk<'a> {
    kind: &'a [u8],
    /// The offset of the length in the file.
    at: usize,
    length: usize,
    content: &'a [u8],
    sum: Option<u32>,
}

impl Chunk<'_> {
    fn is_whole(&self) -> bool {
        self.content.len() == self.length
    }

    /// Returns true if the checksum is that of its kind and content.
    fn is_right(&self) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.kind);
        hasher.update(self.content);
        self.sum == Some(hasher.finalize())
    }
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = SIGNATURE;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let (&length, content) = rest.split_first_chunk()?;
        let (kind, content) = content.split_at_checked(4)?;
        let length = u32::from_be_bytes(length) as usize;
        let (content, after) = content.split_at(length.min(content.len()));
        let chunk = Chunk { kind, at, length, content, sum: after.first_chunk().map(|&sum| u32::from_be_bytes(sum)) };
        at = at.saturating_add(HEAD + SUM).saturating_add(length);
        Some(chunk)
    })
}

/// Returns the number of frames of an animation.
pub(super) fn frames(bytes: &[u8]) -> u32 {
    let mut head = chunks(bytes).take_while(|chunk| chunk.kind != b"IDAT");
    let control = head.find(|chunk| chunk.kind == b"acTL" && chunk.is_right());
    control.and_then(|chunk| chunk.content.first_chunk()).map_or(1, |&frames| u32::from_be_bytes(frames))
}

/// Returns the file for its decoder, with only header, colors and pixels, so that other chunks cannot break the image
/// or ask for memory. The checksums of the pixels are corrected and an end is added, because Pillow reads neither.
pub(super) fn plain(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    /// The checksum of the compressed pixels, if it is missing.
    const INNER_SUM: [u8; 4] = [0; 4];
    const MAX_LENGTH: usize = 1 << 31;
    let mut plain = reserve(bytes.len() + HEAD + INNER_SUM.len() + SUM + END.len())?;
    plain.extend_from_slice(&bytes[..SIGNATURE]);
    let head = chunks(bytes).take_while(|chunk| chunk.kind != b"IDAT");
    for chunk in head.filter(|chunk| matches!(chunk.kind, b"IHDR" | b"PLTE") && chunk.is_whole()) {
        // A wrong checksum of these chunks stays wrong.
        plain.extend_from_slice(&bytes[chunk.at..][..HEAD + chunk.length]);
        plain.extend_from_slice(&chunk.sum.unwrap_or(0).to_be_bytes());
    }
    let start = plain.len();
    plain.extend_from_slice(b"\0\0\0\0IDAT");
    let pixels = chunks(bytes).skip_while(|chunk| chunk.kind != b"IDAT").take_while(|chunk| chunk.kind == b"IDAT");
    pixels.for_each(|chunk| plain.extend_from_slice(chunk.content));
    if plain.len() > start + HEAD {
        plain.extend_from_slice(&INNER_SUM);
        let length = (plain.len() - start - HEAD).min(MAX_LENGTH - 1) as u32;
        plain[start..start + 4].copy_from_slice(&length.to_be_bytes());
        let sum = crc32fast::hash(&plain[start + 4..]);
        plain.extend_from_slice(&sum.to_be_bytes());
        plain.extend_from_slice(END);
        Ok(plain)
    } else {
        Err(undecodable(Format::Png, TRUNCATED))
    }
}

/// Names of the texts that can contain an orientation, as Pillow names them.
const EXIF: &[u8] = b"exif";
const PROFILE: &[u8] = b"Raw profile type exif";
const XMP: &[u8] = b"XML:com.adobe.xmp";

/// Largest size of one text after decompression, and of all of them. Pillow rejects a file with more.
const MAX_TEXT: u64 = 1024 * 1024;
const MAX_TEXTS: u64 = 64 * MAX_TEXT;

/// Returns EXIF and XMP, which may also follow the pixels. Of several, the last one counts.
pub(super) fn metadata(bytes: &[u8]) -> Metadata<'_> {
    let (mut exif, mut profile, mut packet, mut xmp) = (None, None, None, None);
    let (mut is_animated, mut are_pixels_over) = (false, false);
    let mut left = MAX_TEXTS;
    for chunk in chunks(bytes) {
        let is_name = chunk.kind.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !chunk.is_whole() || !is_name {
            break;
        }
        match chunk.kind {
            b"IEND" => break,
            b"IDAT" => are_pixels_over = true,
            // The next frame begins.
            b"fcTL" if is_animated && are_pixels_over => break,
            b"acTL" if !are_pixels_over => is_animated = is_animation(bytes, chunk.content),
            b"eXIf" => exif = Some(Exif::Bytes(chunk.content.into())),
            b"tEXt" | b"zTXt" | b"iTXt" => {
                let Some(Text { name, text, is_valid }) = text(chunk.kind, chunk.content, &mut left) else { continue };
                match name {
                    // The last one counts if no valid text has content.
                    XMP if chunk.kind == b"iTXt" => {
                        if is_valid {
                            xmp = Some(text.clone());
                        }
                        packet = Some(text);
                    }
                    _ if !is_valid => {}
                    EXIF if chunk.kind == b"tEXt" => exif = Some(Exif::Bytes(text)),
                    EXIF => exif = Some(Exif::Broken),
                    PROFILE => profile = Some(text),
                    _ => xmp = Some(text),
                }
            }
            _ => {}
        }
    }
    let from_profile = || profile.map(|text| from_hex(&text).map_or(Exif::Broken, |exif| Exif::Bytes(exif.into())));
    Metadata { exif: exif.or_else(from_profile), xmp: xmp.filter(|text| !text.is_empty()).or(packet) }
}

/// Returns true if the file has more than one frame. Pixels in front of the first frame's control chunk are a default
/// image, which counts in addition.
fn is_animation(bytes: &[u8], control: &[u8]) -> bool {
    let frames = control.first_chunk().map_or(0, |&frames| u32::from_be_bytes(frames));
    let first = chunks(bytes).find(|chunk| matches!(chunk.kind, b"IDAT" | b"fcTL"));
    frames > 1 || frames == 1 && first.is_some_and(|chunk| chunk.kind == b"IDAT")
}

/// A text with one of the names above.
struct Text<'a> {
    name: &'a [u8],
    text: Cow<'a, [u8]>,
    /// True if the text and its description are valid in the encoding of its kind of chunk.
    is_valid: bool,
}

fn text<'a>(kind: &[u8], content: &'a [u8], left: &mut u64) -> Option<Text<'a>> {
    let (name, rest) = split(content)?;
    if ![EXIF, PROFILE, XMP].contains(&name) {
        return None;
    }
    Some(match kind {
        b"tEXt" => Text { name, text: rest.into(), is_valid: true },
        b"zTXt" => Text { name, text: inflate(rest.get(1..)?, left).unwrap_or_default().into(), is_valid: true },
        _ => {
            let (&[is_compressed, method], rest) = rest.split_first_chunk()?;
            let (language, rest) = split(rest)?;
            let (translated, text) = split(rest)?;
            let text = match (is_compressed, method) {
                (0, _) => Cow::from(text),
                (_, 0) => inflate(text, left)?.into(),
                _ => return None,
            };
            let is_valid = [language, translated, &text].iter().all(|part| std::str::from_utf8(part).is_ok());
            Text { name, text, is_valid }
        }
    })
}

fn split(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, content)?;
    Some((&content[..end], &content[end + 1..]))
}

/// Returns the available part of a text, or None if its data is damaged.
fn inflate(compressed: &[u8], left: &mut u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let result = ZlibDecoder::new(compressed).take(MAX_TEXT.min(*left)).read_to_end(&mut text);
    *left -= text.len() as u64;
    match result {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => None,
        _ => Some(text),
    }
}

/// Returns the bytes that a profile's text contains as hexadecimal digits. ImageMagick writes lines with a name and a
/// length in front.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    const LINES: usize = 3;
    let lines = text.split(|&byte| byte == b'\n').skip(LINES);
    let mut digits = lines.flatten().copied();
    let mut bytes = Vec::new();
    while let Some(first) = digits.by_ref().find(|digit| !digit.is_ascii_whitespace() && *digit != 0x0b) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((digit(first)? << 4 | digit(digits.next()?)?) as u8);
    }
    Some(bytes)
}
