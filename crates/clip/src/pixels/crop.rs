//! Resize and crop to the size that a model reads, with the roundings of the reference.

use crate::error::Error;
use crate::pixels::resample::{self, Window};
use crate::pixels::rgb::Rgb;
use crate::recipe::{ImageSpec, Resize};

/// Resizes an image and cuts it to the model's size. If the resized image is smaller than the crop, the rest is black.
pub(super) fn crop(image: Rgb, spec: &ImageSpec) -> Result<Rgb, Error> {
    let (width, height) = resized(image.width, image.height, spec.resize);
    let (crop_width, crop_height) = (spec.width, spec.height);
    let (left, padding_left, copied_width) = overlap(width, crop_width);
    let (top, padding_top, copied_height) = overlap(height, crop_height);
    let window = Window { left, top, width: copied_width, height: copied_height };
    let inside = resample::resize(image, width, height, window, spec.resample)?;
    if (copied_width, copied_height) == (crop_width, crop_height) {
        return Ok(inside);
    }
    let mut padded = Rgb::with_capacity(crop_width, crop_height)?;
    padded.bytes.resize(crop_width as usize * crop_height as usize * 3, 0);
    let rows = padded.bytes.chunks_exact_mut(crop_width as usize * 3).skip(padding_top as usize);
    for (row, source) in rows.zip(inside.bytes.chunks_exact(copied_width as usize * 3)) {
        row[padding_left as usize * 3..][..source.len()].copy_from_slice(source);
    }
    Ok(padded)
}

/// Returns the size after the resize, before the crop.
fn resized(width: u32, height: u32, resize: Option<Resize>) -> (u64, u64) {
    let (short, long) = (width.min(height), width.max(height));
    match resize {
        None => (width.into(), height.into()),
        Some(Resize::Exact { width, height }) => (width.into(), height.into()),
        Some(Resize::ShortestEdge(edge)) => {
            // int(edge * long / short): the reference truncates.
            let longer = (u64::from(edge) * u64::from(long)) as f64 / f64::from(short);
            if width <= height { (edge.into(), longer as u64) } else { (longer as u64, edge.into()) }
        }
    }
}

/// Returns where a centered crop of `crop` begins in a side of `side`, the padding in front of it, and the pixels to
/// copy.
fn overlap(side: u64, crop: u32) -> (u64, u32, u32) {
    match side.checked_sub(crop.into()) {
        Some(rest) => (rest / 2, 0, crop),
        // The reference pads ceil(rest / 2) in front, then crops from floor(-rest / 2) of that: they cancel out.
        None => {
            let side = side as u32;
            (0, (crop - side).div_ceil(2), side)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_edge_is_truncated() {
        assert_eq!(resized(451, 300, Some(Resize::ShortestEdge(224))), (336, 224));
        assert_eq!(resized(300, 451, Some(Resize::ShortestEdge(224))), (224, 336));
        assert_eq!(resized(5, 400, Some(Resize::ShortestEdge(96))), (96, 7680));
    }

    #[test]
    fn the_crop_is_centered_and_floored() {
        assert_eq!(overlap(335, 224), (55, 0, 224));
        assert_eq!(overlap(224, 224), (0, 0, 224));
    }

    #[test]
    fn a_side_shorter_than_the_crop_is_padded() {
        assert_eq!(overlap(61, 64), (0, 2, 61));
        assert_eq!(overlap(62, 64), (0, 1, 62));
    }
}
