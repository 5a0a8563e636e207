//! A unit vector. Only a constructor that normalises can make one.

use crate::error::{Error, Tower};

/// An L2-normalised, finite vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// Scale `row` to length one. NaN, infinities and the zero vector have no direction and are refused.
    pub(crate) fn normalise(row: &[f32], model: &str, tower: Tower) -> Result<Self, Error> {
        // Sums in f64: a sum of 1,000 squares in f32 would lose the last digits of the length.
        let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if !length.is_finite() || length < f64::from(f32::MIN_POSITIVE) {
            return Err(Error::NotAnEmbedding { model: model.into(), tower });
        }
        Ok(Self(row.iter().map(|&x| (f64::from(x) / length) as f32).collect()))
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The cosine of the angle between two embeddings of one model.
    pub fn cosine(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalise(row: &[f32]) -> Result<Embedding, Error> {
        Embedding::normalise(row, "m", Tower::Text)
    }

    #[test]
    fn length_is_one() {
        assert_eq!(normalise(&[3.0, 4.0]).unwrap().as_slice(), &[0.6, 0.8]);
    }

    #[test]
    fn squares_that_overflow_f32_are_fine() {
        let embedding = normalise(&[3e30, 4e30]).unwrap();
        assert!((embedding.cosine(&normalise(&[3.0, 4.0]).unwrap()) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        for row in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[]] {
            assert_eq!(normalise(row), Err(Error::NotAnEmbedding { model: "m".into(), tower: Tower::Text }));
        }
    }
}
