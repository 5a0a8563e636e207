//! The metadata of an image that can say how it is turned: EXIF and XMP. External crate: `memchr`.

use std::borrow::Cow;

use memchr::memmem;

use crate::pixels::exif::{self, Found, UPRIGHT};

/// The metadata of a file.
#[derive(Default)]
pub(super) struct Metadata<'a> {
    /// None if the file has no EXIF.
    pub exif: Option<Exif<'a>>,
    pub xmp: Option<Cow<'a, [u8]>>,
}

/// EXIF as a container holds it.
pub(super) enum Exif<'a> {
    Bytes(Cow<'a, [u8]>),
    /// EXIF in a text that is not one.
    Broken,
}

impl Metadata<'_> {
    /// Returns the orientation in EXIF's numbers.
    pub fn orientation(&self) -> u8 {
        let found = match &self.exif {
            None => Found::Nothing,
            Some(Exif::Broken) => Found::Broken,
            Some(Exif::Bytes(bytes)) => exif::orientation(bytes),
        };
        decide(found, self.xmp.as_deref())
    }
}

/// Returns the orientation. XMP counts only where EXIF can be read and has no orientation.
pub(super) fn decide(exif: Found, xmp: Option<&[u8]>) -> u8 {
    match exif {
        Found::Value(value) => value,
        Found::Broken => UPRIGHT,
        Found::Nothing => xmp.and_then(in_xmp).unwrap_or(UPRIGHT),
    }
}

/// Returns the first `tiff:Orientation`, as an attribute or as an element. Pillow looks for these bytes and parses no
/// XML.
fn in_xmp(packet: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    memmem::find_iter(packet, NAME).find_map(|at| match &packet[at + NAME.len()..] {
        [b'=', b'"', digit @ b'0'..=b'9', ..] | [b'>', digit @ b'0'..=b'9', ..] => Some(digit - b'0'),
        _ => None,
    })
}
