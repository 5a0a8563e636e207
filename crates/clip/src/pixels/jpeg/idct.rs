//! The inverse cosine transform of a block, bit for bit that of libjpeg-turbo on processors with AVX2 or SSE2: the accurate
//! one of integers, with sums of 16 bits.

use std::num::Wrapping;

use super::scan::Block;

/// What coefficients are multiplied by.
pub(super) struct Steps([i16; 64]);

impl Steps {
    pub fn new(steps: &[u16; 64]) -> Self {
        Self(steps.map(|step| step as i16))
    }
}

type Lanes = [i16; 8];

/// One of the two passes, over eight columns at once; results lose `DESCALE` bits.
#[inline(always)]
fn pass<const DESCALE: u32>(rows: &[Lanes; 8]) -> [Lanes; 8] {
    let mut out = [[0i16; 8]; 8];
    for lane in 0..8 {
        let row = |index: usize| Wrapping(rows[index][lane]);
        let wide = |value: Wrapping<i16>| Wrapping(i32::from(value.0));
        let times = |value: Wrapping<i16>, factor: i32| wide(value) * Wrapping(factor);
        // FIX(x) is x << 13; sums of factors are made beforehand.
        let (two, six) = (row(2), row(6));
        let even_high = times(two, 4433 + 6270) + times(six, 4433);
        let even_low = times(two, 4433) + times(six, 4433 - 15137);
        let sum = wide(row(0) + row(4)) << 13;
        let difference = wide(row(0) - row(4)) << 13;
        let even = [sum + even_high, difference + even_low, difference - even_low, sum - even_high];

        let (seven, five, three, one) = (row(7), row(5), row(3), row(1));
        let (third, fourth) = (seven + three, five + one);
        let z3 = times(third, 9633 - 16069) + times(fourth, 9633);
        let z4 = times(third, 9633) + times(fourth, 9633 - 3196);
        let odd = [
            times(seven, -7373) + times(one, 12299 - 7373) + z4,
            times(five, -20995) + times(three, 25172 - 20995) + z3,
            times(five, 16819 - 20995) + times(three, -20995) + z4,
            times(seven, 2446 - 7373) + times(one, -7373) + z3,
        ];
        let round = Wrapping(1 << (DESCALE - 1));
        for index in 0..4 {
            let descale =
                |value: Wrapping<i32>| ((value + round).0 >> DESCALE).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            out[index][lane] = descale(even[index] + odd[index]);
            out[7 - index][lane] = descale(even[index] - odd[index]);
        }
    }
    out
}

#[inline(always)]
fn transpose(rows: &[Lanes; 8]) -> [Lanes; 8] {
    let mut columns = [[0; 8]; 8];
    for (index, row) in rows.iter().enumerate() {
        for (column, &value) in columns.iter_mut().zip(row) {
            column[index] = value;
        }
    }
    columns
}

/// The samples of a block, row by row.
#[inline(always)]
pub(super) fn idct(block: &Block, Steps(steps): &Steps) -> [[u8; 8]; 8] {
    let mut rows = [[0i16; 8]; 8];
    for (row, (coefficients, steps)) in rows.iter_mut().zip(block.chunks_exact(8).zip(steps.chunks_exact(8))) {
        for (value, (&coefficient, &step)) in row.iter_mut().zip(coefficients.iter().zip(steps)) {
            *value = coefficient.wrapping_mul(step);
        }
    }
    let ac = block[8..].iter().fold(0, |all, &coefficient| all | coefficient);
    if ac == 0 && block[1..8].iter().all(|&coefficient| coefficient == 0) {
        return [[sample((i32::from(rows[0][0].wrapping_shl(2)) + 16 >> 5) as i16); 8]; 8];
    }
    let columns = if ac == 0 { [rows[0].map(|value| value.wrapping_shl(2)); 8] } else { pass::<11>(&rows) };
    transpose(&pass::<18>(&transpose(&columns))).map(|row| row.map(sample))
}

#[inline(always)]
fn sample(value: i16) -> u8 {
    (value.clamp(-128, 127) as u8) ^ 0x80
}
