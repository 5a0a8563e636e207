//! The inputs of a graph: their names, and tensors of their types. External crates: `half`, `ort`.

use half::f16;
use ort::session::SessionInputValue;
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use crate::error::{Error, Tower};
use crate::memory::reserve;
use crate::runtime::failure::inference_failed;
use crate::runtime::rows::element;

/// The inputs of a run, by name.
pub(super) type Inputs<'a> = Vec<(String, SessionInputValue<'a>)>;

/// Names under which exports read tokens, and pixels.
pub(super) const IDS: &[&str] = &["input_ids", "text"];
pub(super) const PIXELS: &[&str] = &["pixel_values", "image"];

/// The inputs that a graph has.
pub(super) struct Signature<'s> {
    pub inputs: &'s [Outlet],
    pub model: &'s str,
    /// None if the graph has both towers.
    pub tower: Option<Tower>,
}

impl Signature<'_> {
    /// Returns the inputs for texts of one length.
    pub fn texts(&self, texts: usize, ids: &[u32], mask: &[bool]) -> Result<Inputs<'static>, Error> {
        let shape = [texts, ids.len() / texts.max(1)];
        let mut inputs = Vec::new();
        for input in self.inputs {
            let values: Vec<i64> = match input.name() {
                name if IDS.contains(&name) => ids.iter().map(|&id| i64::from(id)).collect(),
                "attention_mask" => mask.iter().map(|&real| i64::from(real)).collect(),
                // One sentence, never a pair.
                "token_type_ids" => vec![0; ids.len()],
                name if self.tower.is_none() && PIXELS.contains(&name) => continue,
                other => return Err(self.unknown(other)),
            };
            inputs.push((input.name().to_owned(), self.integers(shape, values, input.dtype())?));
        }
        Ok(inputs)
    }

    /// Returns the inputs for images.
    pub fn images<'a>(
        &self,
        images: usize,
        pixels: &'a [f32],
        (width, height): (u32, u32),
    ) -> Result<Inputs<'a>, Error> {
        let is_pixels = |input: &&Outlet| PIXELS.contains(&input.name());
        let inputs = self.inputs;
        if let Some(other) = inputs.iter().find(|input| self.tower.is_some() && !is_pixels(input) && inputs.len() > 1) {
            return Err(self.unknown(other.name()));
        }
        // The only input of an image tower may have any name.
        let Some(input) = inputs.iter().find(is_pixels).or(inputs.first()) else {
            return Err(self.unknown("no input"));
        };
        let shape = [images, 3, height as usize, width as usize];
        let tensor = match element(input.dtype()) {
            Some(TensorElementType::Float32) => {
                TensorRef::from_array_view((shape, pixels)).map_err(|error| self.failed(&error))?.into()
            }
            Some(TensorElementType::Float16) => {
                let mut halves = reserve(pixels.len())?;
                halves.extend(pixels.iter().map(|&value| f16::from_f32(value)));
                Tensor::from_array((shape, halves)).map_err(|error| self.failed(&error))?.into()
            }
            _ => return Err(self.unknown(input.name())),
        };
        Ok(vec![(input.name().to_owned(), tensor)])
    }

    fn integers(
        &self,
        shape: [usize; 2],
        values: Vec<i64>,
        dtype: &ValueType,
    ) -> Result<SessionInputValue<'static>, Error> {
        match element(dtype) {
            Some(TensorElementType::Int64) => Tensor::from_array((shape, values)).map(Into::into),
            Some(TensorElementType::Int32) => {
                // Ids are below the size of a vocabulary, a mask is 0 or 1.
                let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
                Tensor::from_array((shape, values)).map(Into::into)
            }
            _ => return Err(self.unknown("an input that is not of type int64 or int32")),
        }
        .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ort::Error) -> Error {
        inference_failed(self.model, self.tower, error.message())
    }

    fn unknown(&self, input: &str) -> Error {
        let reason = format!("the graph wants {input:?}, which is not known here");
        inference_failed(self.model, self.tower, &reason)
    }
}
