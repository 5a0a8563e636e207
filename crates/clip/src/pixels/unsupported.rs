//! The names of formats without a decoder, for errors.

use memchr::memmem;

/// First bytes: offset, bytes, name.
const SIGNATURES: [(usize, &[u8], &str); 25] = [
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"\0\0\x02\0", "CUR"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"qoif", "QOI"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"DDS ", "DDS"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"gimp xcf", "XCF"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"IIRO", "ORF"),
    (0, b"IIU\0", "RW2"),
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, b"\x1a\x45\xdf\xa3", "WebM"),
    (8, b"AVI ", "AVI"),
    (0, b"P1\n", "PNM"),
    (0, b"P4\n", "PNM"),
    (0, b"P5\n", "PNM"),
    (0, b"P6\n", "PNM"),
];

/// Brands of the ISO base media file format.
const BRANDS: [(&[u8], &str); 28] = [
    (b"avif", "AVIF"),
    (b"avis", "AVIF"),
    (b"avio", "AVIF"),
    (b"heic", "HEIC"),
    (b"heix", "HEIC"),
    (b"heim", "HEIC"),
    (b"heis", "HEIC"),
    (b"hevc", "HEIC"),
    (b"hevx", "HEIC"),
    (b"hevm", "HEIC"),
    (b"hevs", "HEIC"),
    (b"crx ", "CR3"),
    (b"jp2 ", "JPEG 2000"),
    (b"jxl ", "JPEG XL"),
    (b"qt  ", "MOV"),
    (b"isom", "MP4"),
    (b"iso2", "MP4"),
    (b"iso3", "MP4"),
    (b"iso4", "MP4"),
    (b"iso5", "MP4"),
    (b"iso6", "MP4"),
    (b"mp41", "MP4"),
    (b"mp42", "MP4"),
    (b"avc1", "MP4"),
    (b"dash", "MP4"),
    (b"M4V ", "MP4"),
    (b"3gp4", "3GP"),
    (b"3gp5", "3GP"),
];

/// Brands of images in general. Another brand names the format of the pixels, if any does.
const CONTAINERS: [&[u8]; 6] = [b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"heif"];

/// Returns the name of a format without a decoder.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    let is =
        |(offset, magic, _): &&(usize, &[u8], &str)| bytes.get(*offset..).is_some_and(|rest| rest.starts_with(magic));
    SIGNATURES.iter().find(is).map(|(_, _, name)| *name).or_else(|| brand(bytes)).or_else(|| document(bytes))
}

/// Returns the format of an ISO base media file. Its first brand decides, unless it stands for images in general; then
/// the others decide.
fn brand(bytes: &[u8]) -> Option<&'static str> {
    /// Size and kind of the box.
    const HEAD: usize = 8;
    const BRAND: usize = 4;
    let (&size, rest) = bytes.split_first_chunk()?;
    let brands = rest.strip_prefix(b"ftyp")?;
    let end = (u32::from_be_bytes(size) as usize).saturating_sub(HEAD).min(brands.len());
    // A version stands between the first brand and the others.
    let mut brands =
        brands[..end].chunks_exact(BRAND).enumerate().filter(|&(place, _)| place != 1).map(|(_, brand)| brand);
    let first = brands.next()?;
    let named = |brand: &[u8]| BRANDS.iter().find(|(known, _)| *known == brand).map(|(_, name)| *name);
    if CONTAINERS.contains(&first) {
        return Some(brands.find_map(named).filter(|name| ["AVIF", "HEIC"].contains(name)).unwrap_or("HEIF"));
    }
    named(first).or_else(|| first.starts_with(b"3g").then_some("3GP")).or(Some("MP4"))
}

/// Returns the kind of a document with tags, by its root.
fn document(bytes: &[u8]) -> Option<&'static str> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let mut rest = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    let mut is_xml = false;
    loop {
        // Declarations and comments stand in front of the root, in any order.
        let end: &[u8] = match rest {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..]
                if rest[2..].trim_ascii_start().get(..7).is_some_and(|kind| kind.eq_ignore_ascii_case(b"doctype")) =>
            {
                let head = &rest[..memchr::memchr2(b'>', b'[', rest).unwrap_or(rest.len())];
                // The declaration may define entities of its own.
                if rest.get(head.len()) == Some(&b'[') { b"]>" } else { b">" }
            }
            _ => break,
        };
        is_xml |= rest.starts_with(b"<?xml");
        let after = memmem::find(rest, end)? + end.len();
        rest = rest[after..].trim_ascii_start();
    }
    let root = rest.strip_prefix(b"<")?;
    let root = &root[..root.iter().position(|byte| b" \t\r\n/>".contains(byte))?];
    // The name may have a prefix for its namespace.
    match root.rsplit(|&byte| byte == b':').next()? {
        b"svg" => Some("SVG"),
        name if name.eq_ignore_ascii_case(b"html") => Some("HTML"),
        _ => is_xml.then_some("XML"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(brands: &str) -> Vec<u8> {
        let brands = [&brands.as_bytes()[..4], b"\0\0\0\0", &brands.as_bytes()[4..]].concat();
        [&(brands.len() as u32 + 8).to_be_bytes(), &b"ftyp"[..], &brands, b"\0\0\0\x08free"].concat()
    }

    #[test]
    fn brands_name_the_format() {
        for brand in ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"] {
            assert_eq!(name(&boxed(&format!("{brand}mif1"))), Some("HEIC"), "{brand}");
            assert_eq!(name(&boxed(&format!("mif1{brand}"))), Some("HEIC"), "{brand}");
        }
        for brand in ["avif", "avis", "avio"] {
            assert_eq!(name(&boxed(brand)), Some("AVIF"), "{brand}");
            assert_eq!(name(&boxed(&format!("msf1mif1{brand}"))), Some("AVIF"), "{brand}");
        }
        for (brands, format) in [
            ("mif1", "HEIF"),
            ("mif1jpeg", "HEIF"),
            ("crx isom", "CR3"),
            ("qt  ", "MOV"),
            ("isomavc1", "MP4"),
            ("3gp6", "3GP"),
            ("xyz1", "MP4"),
        ] {
            assert_eq!(name(&boxed(brands)), Some(format), "{brands}");
        }
        // The brands behind the box, or one that is not whole, are none.
        assert_eq!(name(&[&boxed("mif1")[..], b"avif"].concat()), Some("HEIF"));
        assert_eq!(name(b"\0\0\0\x20ftypavi"), None);
    }

    #[test]
    fn a_document_is_named_by_its_root() {
        for svg in [
            "<svg/>",
            "\u{feff}<svg xmlns='x'>",
            "\n <?xml version='1.0'?>\n<!-- <html> -->\n<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'>\n<svg>",
            "<?xml version='1.0'?><!DOCTYPE svg [ <!ENTITY a 'b'> ]><svg:svg xmlns:svg='x'>",
            "<!-- a -->\u{a}<svg\u{a}width='1'>",
        ] {
            assert_eq!(name(svg.as_bytes()), Some("SVG"), "{svg}");
        }
        assert_eq!(name(b"<?xml version='1.0'?><rss><svg/></rss>"), Some("XML"));
        assert_eq!(name(b"<?xml version='1.0'?><svgfont>"), Some("XML"));
        assert_eq!(name(b"<!doctype html><html><body><svg>"), Some("HTML"));
        assert_eq!(name(b"<?xml version='1.0'?>\n<!DOCTYPE html>\n<HTML>"), Some("HTML"));
        for text in ["", "<", "<svg", "<!--", "<!DOCTYPE svg", "<!DOCTYPE svg [", "<?xml", "a < b", "<!", "<! a>"] {
            assert_eq!(name(text.as_bytes()), None, "{text}");
        }
    }
}
