//! Unit vectors. Only constructors that normalize can make them.

use crate::error::{Error, Tower};
use crate::memory::reserve;

/// An L2-normalized, finite vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// Scales `row` to length one. Rejects NaN, infinities and the zero vector, which have no direction.
    pub(crate) fn normalize(row: &[f32], model: &str, tower: Tower) -> Result<Self, Error> {
        let length = length(row).map_err(|_| Error::NotAnEmbedding { model: model.into(), tower })?;
        Ok(Self(row.iter().map(|&x| (f64::from(x) / length) as f32).collect()))
    }

    /// Returns the direction of the weighted sum of vectors, each scaled to length one. Weights may be negative.
    pub fn blend(vectors: &[&[f32]], weights: &[f32]) -> Result<Self, Error> {
        let dimensions = vectors.first().map_or(0, |vector| vector.len());
        let mut sum = reserve(dimensions)?;
        sum.resize(dimensions, 0.0);
        let mut weight_of_all = 0.0;
        for (vector, &weight) in vectors.iter().zip(weights) {
            same_dimensions(dimensions, vector.len())?;
            let factor = f64::from(weight) / length(vector)?;
            weight_of_all += f64::from(weight).abs();
            sum.iter_mut().zip(*vector).for_each(|(sum, &x)| *sum += factor * f64::from(x));
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        // If vectors cancel out, the rest is rounding.
        if length.is_nan() || length <= CANCELLED * weight_of_all {
            return Err(Error::NoDirection);
        }
        Ok(Self(sum.iter().map(|x| (x / length) as f32).collect()))
    }

    /// Takes a vector that another process has normalized. Returns None if its length is not one.
    pub fn of_unit(row: &[f32]) -> Option<Self> {
        let length = length(row).ok()?;
        ((length - 1.0).abs() < UNIT_TOLERANCE).then(|| Self(row.into()))
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Returns the cosine of two embeddings of one model.
    pub fn cosine(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }
}

/// Largest difference of the length of a normalized vector from one: the rounding of its elements.
const UNIT_TOLERANCE: f64 = 1e-3;

/// Shortest sum that has a direction, as a part of its weights: single precision has 24 bits.
const CANCELLED: f64 = 1e-6;

/// Sums that a processor computes in parallel.
const LANES: usize = 16;

/// Returns the inner product of two vectors of the same length, in single precision like the reference.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.zip(b_lanes) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f32>() + rest
}

/// Returns the cosine of two vectors of any length other than zero, in double precision.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Returns the length of a vector. Rejects NaN, infinities and the zero vector, which have no direction. The squares
/// are summed in f64, because a sum of 1,000 in f32 would lose the last digits.
pub(crate) fn length(vector: &[f32]) -> Result<f64, Error> {
    let lanes = vector.chunks_exact(LANES);
    let mut sum: f64 = lanes.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let mut sums = [0.0; LANES];
    for lane in lanes {
        sums.iter_mut().zip(lane).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    }
    sum += sums.iter().sum::<f64>();
    let length = sum.sqrt();
    match length.is_finite() && length >= f64::from(f32::MIN_POSITIVE) {
        true => Ok(length),
        false => Err(Error::NoDirection),
    }
}

/// Rejects vectors of different dimensions, which are from different models.
pub(crate) fn same_dimensions(one: usize, other: usize) -> Result<(), Error> {
    if one == other { Ok(()) } else { Err(Error::Dimensions { one, other }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalize(row: &[f32]) -> Result<Embedding, Error> {
        Embedding::normalize(row, "m", Tower::Text)
    }

    #[test]
    fn length_is_one() {
        assert_eq!(normalize(&[3.0, 4.0]).unwrap().as_slice(), &[0.6, 0.8]);
    }

    #[test]
    fn squares_that_overflow_f32_are_fine() {
        let embedding = normalize(&[3e30, 4e30]).unwrap();
        assert!((embedding.cosine(&normalize(&[3.0, 4.0]).unwrap()) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        for row in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[]] {
            assert_eq!(normalize(row), Err(Error::NotAnEmbedding { model: "m".into(), tower: Tower::Text }));
        }
    }

    #[test]
    fn only_unit_vectors_are_taken_as_they_are() {
        let unit = normalize(&[3.0, 4.0]).unwrap();
        assert_eq!(Embedding::of_unit(unit.as_slice()), Some(unit));
        for row in [&[3.0, 4.0][..], &[0.0, 0.0], &[f32::NAN, 1.0], &[]] {
            assert_eq!(Embedding::of_unit(row), None);
        }
    }

    #[test]
    fn a_blend_is_the_direction_of_the_weighted_sum() {
        let (east, north) = (&[2.0, 0.0][..], &[0.0, 0.5][..]);
        let blend =
            |vectors: &[&[f32]], weights: &[f32]| Embedding::blend(vectors, weights).map(|found| found.0.to_vec());
        assert_eq!(blend(&[east, north], &[3.0, 4.0]), Ok(vec![0.6, 0.8]));
        assert_eq!(blend(&[east, north], &[3.0, -4.0]), Ok(vec![0.6, -0.8]));
        assert_eq!(blend(&[east], &[-1.0]), Ok(vec![-1.0, 0.0]));
        for (vectors, weights) in
            [(&[east, east][..], &[1.0, -1.0][..]), (&[east], &[0.0]), (&[], &[]), (&[east], &[f32::NAN])]
        {
            assert_eq!(blend(vectors, weights), Err(Error::NoDirection));
        }
        assert_eq!(blend(&[east, &[1.0]], &[1.0, 1.0]), Err(Error::Dimensions { one: 2, other: 1 }));
    }

    #[test]
    fn inner_products_count_every_element() {
        let ones = vec![1.0; 2 * LANES + 3];
        assert_eq!(dot(&ones, &ones), (2 * LANES + 3) as f32);
    }
}
