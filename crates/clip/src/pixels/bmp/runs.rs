//! The runs of a compressed BMP, by Pillow's rules for lines that are too long and for jumps.

use crate::pixels::format::TRUNCATED;

/// The pixels in their stored order. A jump leaves the pixels that it skips at index 0.
pub(super) struct Runs<'a> {
    bytes: &'a [u8],
    /// The next byte to read. Literal pixels are padded to even offsets of the file.
    at: usize,
    is_narrow: bool,
    width: usize,
    pixels: usize,
    /// The next pixel to return, and the position in its line.
    next: usize,
    x: usize,
    order: Order,
}

/// The pixels of one order.
enum Order {
    Done,
    /// A number of pixels with two alternating indices.
    Repeat {
        left: usize,
        indices: [u8; 2],
    },
    /// A number of pixels, each from the file.
    Literal {
        left: usize,
        low: Option<u8>,
        is_last: bool,
    },
}

impl<'a> Runs<'a> {
    pub fn new(bytes: &'a [u8], at: usize, is_narrow: bool, width: usize, height: usize) -> Self {
        Self { bytes, at, is_narrow, width, pixels: width * height, next: 0, x: 0, order: Order::Done }
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = self.bytes.get(self.at).ok_or(TRUNCATED)?;
        self.at += 1;
        Ok(*byte)
    }

    /// Returns the place of the next pixel and its index, or None at the end of the image.
    pub fn next_pixel(&mut self) -> Result<Option<(usize, u8)>, &'static str> {
        while self.next < self.pixels {
            let index = match &mut self.order {
                Order::Repeat { left: left @ 1.., indices } => {
                    *left -= 1;
                    indices.swap(0, 1);
                    indices[1]
                }
                Order::Literal { left: left @ 1.., low, .. } => {
                    *left -= 1;
                    match low.take() {
                        Some(index) => index,
                        None => self.literal()?,
                    }
                }
                Order::Literal { is_last: true, .. } => return Ok(None),
                Order::Literal { .. } => {
                    self.at = self.at.next_multiple_of(2);
                    self.order = Order::Done;
                    continue;
                }
                Order::Done | Order::Repeat { .. } => match self.next_order()? {
                    true => continue,
                    false => return Ok(None),
                },
            };
            self.next += 1;
            return Ok(Some((self.next - 1, index)));
        }
        Ok(None)
    }

    fn literal(&mut self) -> Result<u8, &'static str> {
        let byte = self.byte()?;
        match &mut self.order {
            Order::Literal { left: 1.., low, .. } if self.is_narrow => {
                *low = Some(byte & 0xf);
                Ok(byte >> 4)
            }
            _ if self.is_narrow => Ok(byte >> 4),
            _ => Ok(byte),
        }
    }

    /// Returns true if the image continues.
    fn next_order(&mut self) -> Result<bool, &'static str> {
        let (count, value) = (self.byte()?, self.byte()?);
        self.order = match (count, value) {
            (0, 0) => {
                self.next = self.next.next_multiple_of(self.width);
                self.x = 0;
                Order::Done
            }
            (0, 1) => return Ok(false),
            (0, 2) => {
                let (right, up) = (self.byte()?, self.byte()?);
                self.next += usize::from(right) + usize::from(up) * self.width;
                self.next = self.next.min(self.pixels);
                self.x = self.next % self.width;
                Order::Done
            }
            (0, count) => {
                self.x += usize::from(count);
                let left = usize::from(count).min(self.pixels - self.next);
                Order::Literal { left, low: None, is_last: left == self.pixels - self.next }
            }
            (count, value) => {
                let left = usize::from(count).min(self.width.saturating_sub(self.x));
                self.x += left;
                let indices = if self.is_narrow { [value >> 4, value & 0xf] } else { [value; 2] };
                Order::Repeat { left, indices }
            }
        };
        Ok(true)
    }
}
