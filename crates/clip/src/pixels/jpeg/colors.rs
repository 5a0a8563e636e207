//! Colors of a JPEG: which ones its components are, by libjpeg's rules, and as RGB, by libjpeg's and Pillow's.

use super::frame::Frame;
use super::reader::Segments;

/// The colors of decoded samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pixels) enum Colors {
    /// Gray or RGB, as Pillow converts the colors of the file.
    Rgb,
    /// RGB from three components, which are YCbCr even if the file says otherwise.
    FromYcc,
    /// The components as they are stored.
    Stored,
}

/// The colors of the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Any,
    Ycc,
    Cmyk,
    Ycck,
}

impl Stored {
    pub fn of(frame: &Frame, segments: &Segments, colors: Colors) -> Self {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (colors, &ids[..]) {
            (Colors::Stored, _) | (_, [_]) => Self::Any,
            (Colors::FromYcc, [_, _, _]) => Self::Ycc,
            (_, [_, _, _]) => match (segments.jfif, segments.adobe) {
                (true, _) => Self::Ycc,
                (false, Some(0)) => Self::Any,
                (false, Some(_)) => Self::Ycc,
                (false, None) if ids == *b"RGB" || frame.coding.lossless => Self::Any,
                (false, None) => Self::Ycc,
            },
            _ => match segments.adobe {
                None | Some(0) => Self::Cmyk,
                Some(_) => Self::Ycck,
            },
        }
    }

    /// Returns true if the conversion loses information.
    pub fn is_lossy(self) -> bool {
        matches!(self, Self::Ycc | Self::Ycck)
    }

    /// Returns the samples of a pixel after the conversion.
    pub fn channels(self, frame: &Frame) -> usize {
        if self == Self::Any { frame.components.len() } else { 3 }
    }

    /// Writes a row of pixels from the rows of the components.
    #[inline(always)]
    pub fn convert(self, rows: &[&[u8]], pixels: &mut [u8]) {
        match (self, rows) {
            (Self::Any, [only]) => pixels.copy_from_slice(&only[..pixels.len()]),
            (Self::Any, [red, green, blue]) => {
                for (pixel, ((&red, &green), &blue)) in
                    pixels.chunks_exact_mut(3).zip(red.iter().zip(*green).zip(*blue))
                {
                    pixel.copy_from_slice(&[red, green, blue]);
                }
            }
            (Self::Ycc, [luma, blue, red]) => {
                #[cfg(target_arch = "x86_64")]
                let done = super::sse2::rgb_row(luma, blue, red, pixels);
                #[cfg(not(target_arch = "x86_64"))]
                let done = 0;
                let rest = luma[done..].iter().zip(&blue[done..]).zip(&red[done..]);
                for (pixel, ((&luma, &blue), &red)) in pixels[3 * done..].chunks_exact_mut(3).zip(rest) {
                    pixel.copy_from_slice(&rgb(luma, blue, red));
                }
            }
            (Self::Ycck, [luma, blue, red, black]) => {
                let inks = luma.iter().zip(*blue).zip(*red).zip(*black);
                for (pixel, (((&luma, &blue), &red), &black)) in pixels.chunks_exact_mut(3).zip(inks) {
                    pixel.copy_from_slice(&printed(rgb(luma, blue, red).map(|level| 255 - level), black));
                }
            }
            (Self::Cmyk, [cyan, magenta, yellow, black]) => {
                let inks = cyan.iter().zip(*magenta).zip(*yellow).zip(*black);
                for (pixel, (((&cyan, &magenta), &yellow), &black)) in pixels.chunks_exact_mut(3).zip(inks) {
                    pixel.copy_from_slice(&printed([cyan, magenta, yellow], black));
                }
            }
            (_, rows) => {
                for (index, pixel) in pixels.chunks_exact_mut(rows.len()).enumerate() {
                    for (sample, row) in pixel.iter_mut().zip(rows) {
                        *sample = row[index];
                    }
                }
            }
        }
    }
}

/// Returns RGB of YCbCr, in fixed point with 16 bits.
#[inline(always)]
fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let half = 1 << 15;
    let levels = [
        luma + ((91_881 * red + half) >> 16),
        luma + ((-22_554 * blue - 46_802 * red + half) >> 16),
        luma + ((116_130 * blue + half) >> 16),
    ];
    levels.map(|level| level.clamp(0, 255) as u8)
}

/// Returns RGB of inverted inks, as Adobe stores them and Pillow always assumes.
#[inline(always)]
fn printed(inks: [u8; 3], black: u8) -> [u8; 3] {
    let light = u32::from(black);
    inks.map(|ink| {
        let product = u32::from(255 - ink) * light + 128;
        (light - (((product >> 8) + product) >> 8)) as u8
    })
}
