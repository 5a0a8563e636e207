//! The inverse cosine transform of a block, bit for bit that of libjpeg-turbo on processors with AVX2 or SSE2: the
//! accurate one of integers, with sums of 16 bits.

use std::num::Wrapping;

use super::block::{Block, Steps};

/// Eight columns at once.
type Lanes = [i16; 8];

/// Returns one of the two passes. Results lose so many bits. Factors are multiplied by 1 << 13; some are sums of two.
fn pass<const BITS: u32>(rows: &[Lanes; 8]) -> [Lanes; 8] {
    let mut out = [[0i16; 8]; 8];
    for lane in 0..8 {
        let row = |index: usize| Wrapping(rows[index][lane]);
        let wide = |value: Wrapping<i16>| Wrapping(i32::from(value.0));
        let times = |value: Wrapping<i16>, factor: i32| wide(value) * Wrapping(factor);
        let even_high = times(row(2), 4433 + 6270) + times(row(6), 4433);
        let even_low = times(row(2), 4433) + times(row(6), 4433 - 15_137);
        let (sum, difference) = (wide(row(0) + row(4)) << 13, wide(row(0) - row(4)) << 13);
        let even = [sum + even_high, difference + even_low, difference - even_low, sum - even_high];

        let (third, fourth) = (row(7) + row(3), row(5) + row(1));
        let shared_low = times(third, 9633 - 16_069) + times(fourth, 9633);
        let shared_high = times(third, 9633) + times(fourth, 9633 - 3196);
        let odd = [
            times(row(7), -7373) + times(row(1), 12_299 - 7373) + shared_high,
            times(row(5), -20_995) + times(row(3), 25_172 - 20_995) + shared_low,
            times(row(5), 16_819 - 20_995) + times(row(3), -20_995) + shared_high,
            times(row(7), 2446 - 7373) + times(row(1), -7373) + shared_low,
        ];
        let descale = |value: Wrapping<i32>| {
            let rounded = (value + Wrapping(1 << (BITS - 1))).0 >> BITS;
            rounded.clamp(i16::MIN.into(), i16::MAX.into()) as i16
        };
        for index in 0..4 {
            out[index][lane] = descale(even[index] + odd[index]);
            out[7 - index][lane] = descale(even[index] - odd[index]);
        }
    }
    out
}

fn transpose(rows: &[Lanes; 8]) -> [Lanes; 8] {
    std::array::from_fn(|column| rows.map(|row| row[column]))
}

/// Returns the samples of a block, row by row.
#[inline(always)]
pub(super) fn idct(block: &Block, steps: &Steps) -> [[u8; 8]; 8] {
    let is_zero = |coefficients: &[i16]| coefficients.iter().fold(0, |all, &coefficient| all | coefficient) == 0;
    if !is_zero(&block[8..]) {
        #[cfg(target_arch = "x86_64")]
        return super::sse2::idct(block, steps);
        #[cfg(not(target_arch = "x86_64"))]
        return plain(block, steps);
    }
    let first = block[0].wrapping_mul(steps.0[0]) << 2;
    if is_zero(&block[1..8]) {
        return [[sample(((i32::from(first) + 16) >> 5) as i16); 8]; 8];
    }
    // Columns of one value are not limited.
    let mut rows = [[0; 8]; 8];
    for (row, (coefficient, step)) in rows.iter_mut().zip(block.iter().zip(&steps.0)) {
        *row = [coefficient.wrapping_mul(*step) << 2; 8];
    }
    samples(&rows)
}

/// Returns the samples of any block, without special instructions of a processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain(block: &Block, Steps(steps): &Steps) -> [[u8; 8]; 8] {
    let mut rows = [[0i16; 8]; 8];
    for (value, (coefficient, step)) in rows.as_flattened_mut().iter_mut().zip(block.iter().zip(steps)) {
        *value = coefficient.wrapping_mul(*step);
    }
    samples(&transpose(&pass::<11>(&rows)))
}

/// Returns the samples after the second pass.
fn samples(rows: &[Lanes; 8]) -> [[u8; 8]; 8] {
    transpose(&pass::<18>(rows)).map(|row| row.map(sample))
}

fn sample(value: i16) -> u8 {
    (value.clamp(-128, 127) as u8) ^ 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_depend_on_the_processor() {
        let mut state = 1u64;
        let mut random = move |limit: i16| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as i16) % limit
        };
        for limit in [2, 40, 1000, i16::MAX] {
            for _ in 0..500 {
                let block: Block = std::array::from_fn(|_| random(limit));
                let steps = Steps(std::array::from_fn(|_| random(limit).max(1)));
                assert_eq!(idct(&block, &steps), plain(&block, &steps), "{block:?}");
            }
        }
    }
}
