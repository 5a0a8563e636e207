//! A TIFF behind the interface of all decoders. External crate: `image`.

use std::io;

use crate::pixels::decoder::{ColorType, ImageDecoder, ImageError, ImageResult};

use crate::pixels::tiff::page::Page;

impl ImageDecoder for Page<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }

    fn read_image(self, rgb: &mut [u8]) -> ImageResult<()> {
        self.decode(rgb).map_err(|reason| ImageError::IoError(io::Error::other(reason)))
    }

    fn read_image_boxed(self: Box<Self>, rgb: &mut [u8]) -> ImageResult<()> {
        // A box is a decoder too; calling its method would recurse.
        Page::read_image(*self, rgb)
    }
}
