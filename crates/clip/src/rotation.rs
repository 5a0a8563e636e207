//! A rotation that prepares embeddings for bits, of which each is the sign of one number.
//!
//! Embeddings of images share a large part, their mean, so many signs are the same in all of them; and some numbers are much larger than
//! the others, so their signs mean more. Without its part in the direction of the mean, and rotated at random, an embedding has signs
//! that differ between images and mean the same. docs/design/search.md has the formulas.
//!
//! Indexes contain the result, so it never changes: the signs are computed from their place, and all sums have a fixed order.

use crate::embedding::{dot, same_dimensions};
use crate::error::Error;
use crate::memory::reserve;

/// Returns `count` numbers of an embedding without its part in the direction of `mean`, rotated. A mean of zeros removes nothing. A rotation
/// keeps lengths and angles. If more numbers are wanted than the embedding has, they are those of further rotations.
pub fn rotate(embedding: &[f32], mean: &[f32], count: usize) -> Result<Vec<f32>, Error> {
    same_dimensions(embedding.len(), mean.len())?;
    // Not finite for a mean of zeros, and if the vectors are so long that products overflow.
    let share = dot(embedding, mean) / dot(mean, mean);
    let share = if share.is_finite() { share } else { 0.0 };
    let mut rest = reserve(embedding.len())?;
    rest.extend(embedding.iter().zip(mean).map(|(&x, &m)| x - share * m));
    let mut spare = reserve(rest.len())?;
    spare.resize(rest.len(), 0.0);
    let mut rotated = reserve(count)?;
    let mut first = 0;
    while rotated.len() < count && !rest.is_empty() {
        first = mix(&mut rest, &mut spare, first);
        // Sums of huge numbers overflow. A vector of pgvector is finite.
        let finite = |&number: &f32| if number.is_nan() { 0.0 } else { number.clamp(f32::MIN, f32::MAX) };
        rotated.extend(rest.iter().take(count - rotated.len()).map(finite));
    }
    Ok(rotated)
}

/// Multiplies by random signs and by a Hadamard matrix, whose size is the largest power of two that fits. If some numbers are left, the
/// same is done to as many numbers from the end. The signs begin at the place `first`. Returns the place after the last used one.
fn mix(numbers: &mut [f32], spare: &mut [f32], first: u64) -> u64 {
    let count = numbers.len();
    let size = 1 << count.ilog2();
    let next = change_signs(numbers, first);
    hadamard(&mut numbers[..size], &mut spare[..size]);
    if size == count {
        return next;
    }
    let next = change_signs(numbers, next);
    hadamard(&mut numbers[count - size..], &mut spare[..size]);
    next
}

fn change_signs(numbers: &mut [f32], first: u64) -> u64 {
    for (number, place) in numbers.iter_mut().zip(first..) {
        *number = if is_negative(place) { -*number } else { *number };
    }
    first + numbers.len() as u64
}

/// The highest bit of SplitMix64, which computes random numbers from their place.
fn is_negative(place: u64) -> bool {
    let mut bits = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (bits ^ (bits >> 31)) >> 63 == 1
}

/// Multiplies by the Hadamard matrix, scaled so that it keeps the length. The number of elements is a power of two, or zero. Every step
/// has the same form, which a processor computes on several numbers at once.
fn hadamard(numbers: &mut [f32], spare: &mut [f32]) {
    let (mut from, mut to) = (&mut *numbers, spare);
    let steps = from.len().checked_ilog2().unwrap_or(0);
    for _ in 0..steps {
        let (left, right) = from.split_at(from.len() / 2);
        for ((pair, &a), &b) in to.chunks_exact_mut(2).zip(left).zip(right) {
            (pair[0], pair[1]) = (a + b, a - b);
        }
        std::mem::swap(&mut from, &mut to);
    }
    let scale = 1.0 / (from.len() as f32).sqrt();
    if steps % 2 == 0 {
        from.iter_mut().for_each(|number| *number *= scale);
    } else {
        to.iter_mut().zip(from).for_each(|(number, &mut sum)| *number = sum * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn inner_products_stay_for_each_number_of_dimensions() {
        for count in [1, 2, 3, 5, 128, 512, 640, 768, 1152] {
            let (a, b, zero) = (draw(count, 1), draw(count, 2), vec![0.0; count]);
            let (rotated_a, rotated_b) = (rotate(&a, &zero, count).unwrap(), rotate(&b, &zero, count).unwrap());
            assert!((dot(&a, &b) - dot(&rotated_a, &rotated_b)).abs() < 1e-4, "{count}");
            assert!((dot(&a, &a) - dot(&rotated_a, &rotated_a)).abs() < 1e-4, "{count}");
        }
    }

    #[test]
    fn the_part_in_the_direction_of_the_mean_is_removed() {
        let (a, mean) = (draw(768, 3), draw(768, 4));
        let zero = vec![0.0; 768];
        assert!(dot(&rotate(&a, &mean, 768).unwrap(), &rotate(&mean, &zero, 768).unwrap()).abs() < 1e-4);
        assert!(rotate(&mean, &mean, 768).unwrap().iter().all(|x| x.abs() < 1e-6));
    }

    /// Computed by a program in another language, from the formulas of docs/design/search.md.
    #[test]
    fn the_rotation_is_the_published_one() {
        let rotated = rotate(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0; 6], 10).unwrap();
        assert_eq!(rotated, [0.0, -2.0, -1.0, 3.5, 0.0, -0.5, -0.25, -1.25, 0.75, -3.0]);
    }

    #[test]
    fn vectors_of_any_size_stay_finite() {
        let huge = vec![f32::MAX; 5];
        assert!(rotate(&huge, &[0.0; 5], 20).unwrap().iter().all(|x| x.is_finite()));
        assert_eq!(rotate(&[], &[], 7), Ok(vec![]));
        assert_eq!(rotate(&[1.0], &[1.0, 2.0], 1), Err(Error::Dimensions { one: 1, other: 2 }));
    }
}
