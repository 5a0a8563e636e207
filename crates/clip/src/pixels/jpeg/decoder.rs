//! A JPEG behind the interface of all decoders. External crate: `image`.

use std::io;

use crate::pixels::decoder::{ColorType, ImageDecoder, ImageError, ImageResult};

use super::{Colors, Jpeg};

impl ImageDecoder for Jpeg<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.width(), self.height())
    }

    fn color_type(&self) -> ColorType {
        if self.channels(Colors::Rgb) == 1 { ColorType::L8 } else { ColorType::Rgb8 }
    }

    fn read_image(self, samples: &mut [u8]) -> ImageResult<()> {
        self.decode(Colors::Rgb, samples).map_err(|reason| ImageError::IoError(io::Error::other(reason)))
    }

    fn read_image_boxed(self: Box<Self>, samples: &mut [u8]) -> ImageResult<()> {
        Jpeg::read_image(*self, samples)
    }
}
