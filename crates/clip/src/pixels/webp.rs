//! WebP files as chunks: repairs for the decoder, memory estimates, and checks before decoding. External crate:
//! `image-webp`, for counting frames.

use std::borrow::Cow;
use std::io::Cursor;

/// Returns a WebP whose flags announce only chunks that it has, and whose first frame is not blended with an empty
/// canvas, which would change a level in this decoder. libwebp ignores wrong flags, and does not blend such a frame.
pub(super) fn repaired(bytes: &[u8]) -> Cow<'_, [u8]> {
    const ANNOUNCED: [(u8, &[u8]); 3] = [(0x10, b"ALPH"), (8, b"EXIF"), (4, b"XMP ")];
    const FRAME_FLAGS: usize = 15;
    const UNBLENDED: u8 = 2;
    let Some(announced) = flags(bytes) else { return bytes.into() };
    let has = |kind: &[u8]| all_chunks(bytes).any(|(found, _)| found == kind);
    // Alpha is part of lossless pixels, and of the frames of an animation.
    let has_alpha = announced & ANIMATION != 0 || has(b"VP8L");
    let missing = ANNOUNCED.into_iter().filter(|(_, kind)| !(has(kind) || *kind == b"ALPH" && has_alpha));
    let flags = (FLAGS, missing.fold(announced, |flags, (flag, _)| flags & !flag));
    let frame = all_chunks(bytes).find(|(kind, _)| *kind == b"ANMF").and_then(|(_, content)| content);
    let blending = frame.and_then(|frame| {
        let at = frame.as_ptr().addr() - bytes.as_ptr().addr() + FRAME_FLAGS;
        Some((at, frame.get(FRAME_FLAGS)? | UNBLENDED))
    });
    let mut repaired = Cow::Borrowed(bytes);
    for (at, byte) in [flags].into_iter().chain(blending) {
        if repaired[at] != byte {
            repaired.to_mut()[at] = byte;
        }
    }
    repaired
}

/// Returns the chunks of a WebP or of a frame of one: their kind and content. The content is None if it is truncated.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    const KIND: usize = 4;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, content) = rest.split_at_checked(KIND)?;
        let (&length, content) = content.split_first_chunk()?;
        let length = u32::from_le_bytes(length) as usize;
        // Chunks begin at even offsets.
        rest = content.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((kind, content.get(..length)))
    })
}

/// Returns the chunks of a whole WebP.
pub(super) fn all_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    const CONTAINER: usize = 12;
    chunks(bytes.get(CONTAINER..).unwrap_or_default())
}

/// Returns the chunks of a WebP up to the length in its header. libwebp does not read those that follow.
pub(super) fn chunks_within(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    const HEAD: usize = 8;
    let length =
        bytes.get(4..).and_then(|rest| rest.first_chunk()).map_or(0, |&length| u32::from_le_bytes(length) as usize);
    all_chunks(&bytes[..length.saturating_add(HEAD).min(bytes.len())])
}

/// The offset of the flags in a WebP of the extended format, and the flag of animations.
const FLAGS: usize = 20;
const ANIMATION: u8 = 2;

/// Returns the flags of a WebP of the extended format.
pub(super) fn flags(bytes: &[u8]) -> Option<u8> {
    const KIND: std::ops::Range<usize> = 12..16;
    bytes.get(FLAGS).copied().filter(|_| &bytes[KIND] == b"VP8X")
}

/// Returns the chunks that hold pixels, including those of an animation's frames.
fn pixel_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const FRAME: usize = 16;
    all_chunks(bytes).flat_map(|(kind, content)| {
        let content = content.unwrap_or_default();
        let is_frame = kind == b"ANMF";
        let inner = if is_frame { content.get(FRAME..).unwrap_or_default() } else { &[] };
        let plain = (!is_frame).then_some((kind, content));
        plain.into_iter().chain(chunks(inner).map(|(kind, content)| (kind, content.unwrap_or_default())))
    })
}

/// Returns true if a WebP has the length in its header. libwebp rejects shorter files, even if the first frame is
/// complete.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    const HEAD: usize = 4;
    let said = bytes.get(HEAD..).and_then(|rest| rest.split_first_chunk());
    said.is_some_and(|(&length, content)| content.len() >= u32::from_le_bytes(length) as usize)
}

/// Returns the memory for the codes of lossless parts of a WebP: a table of 4 kB for each ten bytes, and five for each
/// group.
pub(super) fn code_bytes(bytes: &[u8]) -> u64 {
    const TABLE: u64 = 4200;
    const BYTES_PER_TABLE: u64 = 10;
    const GROUPS: u64 = 1 << 16;
    let lossless = pixel_chunks(bytes).filter(|(kind, _)| matches!(*kind, b"VP8L" | b"ALPH"));
    let longest = lossless.map(|(_, content)| content.len() as u64).max().unwrap_or(0);
    TABLE * (longest / BYTES_PER_TABLE).min(5 * GROUPS)
}

/// Returns true if all frames of a WebP fit into the image, by their own headers.
pub(super) fn is_within(bytes: &[u8], (width, height): (u64, u64)) -> bool {
    const SIZE: u64 = (1 << 14) - 1;
    pixel_chunks(bytes).all(|(kind, content)| {
        let size = match (kind, content) {
            (b"VP8 ", [_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
                [[*w0, *w1], [*h0, *h1]].map(|side| u64::from(u16::from_le_bytes(side)) & SIZE)
            }
            (b"VP8L", [_, b0, b1, b2, b3, ..]) => {
                let bits = u64::from(u32::from_le_bytes([*b0, *b1, *b2, *b3]));
                [(bits & SIZE) + 1, (bits >> 14 & SIZE) + 1]
            }
            _ => return true,
        };
        size[0] <= width && size[1] <= height
    })
}

/// Returns the number of frames, or 1 if they cannot be counted.
pub(super) fn frames(bytes: &[u8]) -> u32 {
    image_webp::WebPDecoder::new(Cursor::new(repaired(bytes))).map_or(1, |decoder| decoder.num_frames())
}
