//! The cost of a JPEG in a TIFF, estimated from its markers. Each scan visits all blocks and cannot be interrupted, and
//! a file of a kilobyte can ask for a hundred scans. External crate: `memchr`.

use memchr::{memchr, memmem};

/// Limit for one image, which takes a few seconds. Progressive encoders write about ten scans.
pub(in crate::pixels) const MAX_SCANNED_PIXELS: u64 = 1 << 30;

/// The size of the frame and the number of scans of a JPEG.
#[derive(Default)]
struct Markers {
    width: u64,
    height: u64,
    components: u64,
    is_progressive: bool,
    scans: u64,
}

/// Returns the pixels of a JPEG times its scans. Fails if it is too large or has too many scans.
pub(in crate::pixels) fn scanned_pixels(bytes: &[u8], size: (u64, u64)) -> Result<u64, &'static str> {
    Markers::read(bytes).scanned_pixels(size)
}

impl Markers {
    fn read(bytes: &[u8]) -> Self {
        const LENGTH: usize = 2;
        let mut markers = Self::default();
        let (mut at, mut unsure) = (0, 0);
        while let Some(place) = bytes.get(at..).and_then(|rest| memchr(0xff, rest)) {
            at += place + 1;
            let Some(&kind) = bytes.get(at) else { break };
            let segment = bytes.get(at + 1..).unwrap_or_default();
            let length = segment.first_chunk().map_or(0, |&length| usize::from(u16::from_be_bytes(length)));
            let content = segment.get(LENGTH..length).unwrap_or_default();
            match kind {
                0xd9 => {
                    if at >= unsure {
                        break;
                    }
                    continue;
                }
                // A frame. Of several, the largest counts.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&kind) => {
                    if let [_, h0, h1, w0, w1, components, ..] = *content {
                        markers.height = markers.height.max(u16::from_be_bytes([h0, h1]).into());
                        markers.width = markers.width.max(u16::from_be_bytes([w0, w1]).into());
                        markers.components = markers.components.max(components.into());
                    }
                    markers.is_progressive |= kind == 0xc2;
                }
                0xda => {
                    markers.scans += 1;
                    continue;
                }
                0xc4 | 0xc8 | 0xcc | 0xdb..=0xdd | 0xdf..=0xef | 0xfe => {}
                // Fill bytes, restarts and data.
                0 | 0xff | 0xd0..=0xd8 => continue,
                // A decoder may skip unknown segments, and an end inside them.
                _ => {
                    unsure = unsure.max(at + length);
                    continue;
                }
            }
            if markers.scans > 0 {
                // It is not known where a decoder continues after damage, so everything that looks like a scan counts.
                markers.scans += memmem::find_iter(content, b"\xff\xda").count() as u64;
            }
            at += 1 + length;
        }
        markers
    }

    fn scanned_pixels(&self, (width, height): (u64, u64)) -> Result<u64, &'static str> {
        let scanned = self.width * self.height * self.scans;
        if self.width > width || self.height > height {
            Err("a JPEG in it is larger than its place")
        } else if scanned > MAX_SCANNED_PIXELS {
            Err("it has too many scans for its size")
        } else if !self.is_progressive && self.scans > self.components.max(1) {
            Err("it has more scans than components")
        } else {
            Ok(scanned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a gray frame of 64 x 64, and so many scans of a byte each.
    fn scans(frame: u8, count: usize) -> Vec<u8> {
        let frame = [&[0xff, 0xd8, 0xff, frame, 0, 11, 8, 0, 64, 0, 64, 1, 1, 0x11, 0][..]].concat();
        let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0";
        [frame, scan.repeat(count), b"\xff\xd9".to_vec()].concat()
    }

    #[test]
    fn scans_are_counted() {
        const SIZE: (u64, u64) = (64, 64);
        assert_eq!(scanned_pixels(&scans(0xc0, 1), SIZE), Ok(64 * 64));
        assert!(scanned_pixels(&scans(0xc0, 2), SIZE).is_err());
        assert_eq!(scanned_pixels(&scans(0xc2, 99), SIZE), Ok(99 * 64 * 64));
        assert!(scanned_pixels(&scans(0xc2, 1 << 19), SIZE).is_err());
        // No end is where a decoder may pass over it.
        let mut hidden = scans(0xc0, 2);
        hidden.splice(15..15, *b"\xff\xf3\0\x06\xff\xd9\0\0");
        assert!(scanned_pixels(&hidden, SIZE).is_err());
        // Data after the end and the thumbnail in front belong to other images.
        assert_eq!(scanned_pixels(&scans(0xc0, 1).repeat(2), SIZE), Ok(64 * 64));
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 0, 8][..], b"\xff\xda\xff\xda\0\0", &scans(0xc0, 1)[2..]].concat();
        assert_eq!(scanned_pixels(&thumbnail, SIZE), Ok(64 * 64));
        assert!(scanned_pixels(&scans(0xc0, 1), (64, 63)).is_err());
    }
}
