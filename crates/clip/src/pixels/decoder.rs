//! The interface of decoders. It is that of the `image` crate, so that its decoders and those of this crate have the
//! same interface.

pub(super) use image::error::{DecodingError, ImageFormatHint, LimitError, LimitErrorKind};
pub(super) use image::metadata::Orientation;
pub(super) use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
