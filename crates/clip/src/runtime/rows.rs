//! The outputs of a graph as rows. External crates: `half`, `ort`.

use half::f16;
use ort::value::{DynValue, TensorElementType, ValueType};

use crate::memory::reserve;
use crate::recipe::Pooling;

/// The result of a run: one row per text or image.
pub(crate) struct Rows {
    pub(super) values: Vec<f32>,
    pub(super) width: usize,
}

impl Rows {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

/// Returns one row made of a row per token. Without a mask, every token counts.
pub(super) fn pool(tokens: &[f32], width: usize, mask: Option<&[bool]>, pooling: Pooling) -> Vec<f32> {
    let counted: Vec<&[f32]> = tokens
        .chunks_exact(width)
        .enumerate()
        .filter(|(position, _)| mask.is_none_or(|mask| mask[*position]))
        .map(|(_, token)| token)
        .collect();
    match (pooling, counted.as_slice()) {
        (Pooling::Cls, [first, ..]) => first.to_vec(),
        (Pooling::Last, [.., last]) => last.to_vec(),
        // The sum replaces the mean, because the row is scaled to length one later.
        (Pooling::Mean, counted) => (0..width).map(|place| counted.iter().map(|token| token[place]).sum()).collect(),
        (_, []) => vec![0.0; width],
    }
}

/// Returns the shape of a tensor and its numbers in single precision.
pub(super) fn floats(value: &DynValue) -> Result<(Vec<usize>, Vec<f32>), String> {
    let sizes = |shape: &[i64]| shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    if element(value.dtype()) == Some(TensorElementType::Float16) {
        let (shape, halves) = value.try_extract_tensor::<f16>().map_err(|error| error.message().to_owned())?;
        return Ok((sizes(shape), halves.iter().map(|half| half.to_f32()).collect()));
    }
    let (shape, values) = value.try_extract_tensor::<f32>().map_err(|error| error.message().to_owned())?;
    let mut copy = reserve(values.len()).map_err(|error| error.to_string())?;
    copy.extend_from_slice(values);
    Ok((sizes(shape), copy))
}

/// Returns the type of a tensor's elements.
pub(super) fn element(dtype: &ValueType) -> Option<TensorElementType> {
    match dtype {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// Returns the shape of a tensor.
pub(super) fn shape(dtype: &ValueType) -> &[i64] {
    match dtype {
        ValueType::Tensor { shape, .. } => shape,
        _ => &[],
    }
}
