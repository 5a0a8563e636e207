//! TIFF: the first page, decoded to RGB as Pillow and its libtiff do it. No `unsafe` code.
//!
//! The reader of the `image` crate lacks YCbCr, palettes, associated alpha, depths of 2, 4 and 12 bits, fax compression
//! other than Group 4, BigTIFF's colors and incomplete directories, so this one replaces it. Files are read in place.

mod chunks;
mod color;
mod compression;
mod cost;
mod decode;
mod decoder;
mod decompress;
mod directory;
mod error;
mod fax;
mod jpeg;
mod page;
mod rows;
#[cfg(test)]
mod tests;
mod ycbcr;

pub(super) use directory::Tiff;
pub(super) use page::Page;
