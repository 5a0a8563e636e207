//! The interface of decoders. It is that of the `image` crate, so that its decoders and ours are used alike.

pub(super) use image::error::{DecodingError, ImageFormatHint, LimitError, LimitErrorKind};
pub(super) use image::metadata::Orientation;
pub(super) use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
