//! The two kernels that take most of the time, in instructions that every processor of x86-64 has. Other processors
//! have the same kernels in plain Rust. External crate: `safe_arch`, which makes functions of these instructions.

use safe_arch::*;

use super::block::{Block, Steps};

#[inline(always)]
fn load(values: &[i16; 8]) -> m128i {
    m128i::from(*values)
}

/// Pairs of factors, in fixed point with 13 bits.
#[inline(always)]
fn pair(first: i16, second: i16) -> m128i {
    m128i::from([first, second, first, second, first, second, first, second])
}

/// Eight numbers of 32 bits.
#[derive(Clone, Copy)]
struct Wide(m128i, m128i);

impl Wide {
    /// `left * first + right * second`.
    #[inline(always)]
    fn products(left: m128i, right: m128i, factors: m128i) -> Self {
        Self(
            mul_i16_horizontal_add_m128i(unpack_low_i16_m128i(left, right), factors),
            mul_i16_horizontal_add_m128i(unpack_high_i16_m128i(left, right), factors),
        )
    }

    /// Numbers of 16 bits times 1 << 13.
    #[inline(always)]
    fn of(values: m128i) -> Self {
        let zero = zeroed_m128i();
        Self(
            shr_imm_i32_m128i::<3>(unpack_low_i16_m128i(zero, values)),
            shr_imm_i32_m128i::<3>(unpack_high_i16_m128i(zero, values)),
        )
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(add_i32_m128i(self.0, other.0), add_i32_m128i(self.1, other.1))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(sub_i32_m128i(self.0, other.0), sub_i32_m128i(self.1, other.1))
    }

    /// Rounded, and cut to 16 bits.
    #[inline(always)]
    fn descale<const BITS: i32>(self) -> m128i {
        let round = set_splat_i32_m128i(1 << (BITS - 1));
        let shifted = |part| shr_imm_i32_m128i::<BITS>(add_i32_m128i(part, round));
        pack_i32_to_i16_m128i(shifted(self.0), shifted(self.1))
    }
}

/// Returns one of the two passes of the cosine transform.
#[inline(always)]
fn pass<const BITS: i32>(rows: [m128i; 8]) -> [m128i; 8] {
    let [zero, one, two, three, four, five, six, seven] = rows;
    let high = Wide::products(two, six, pair(4433 + 6270, 4433));
    let low = Wide::products(two, six, pair(4433, 4433 - 15_137));
    let sum = Wide::of(add_i16_m128i(zero, four));
    let difference = Wide::of(sub_i16_m128i(zero, four));
    let even = [sum.plus(high), difference.plus(low), difference.minus(low), sum.minus(high)];

    let (third, fourth) = (add_i16_m128i(seven, three), add_i16_m128i(five, one));
    let shared_low = Wide::products(third, fourth, pair(9633 - 16_069, 9633));
    let shared_high = Wide::products(third, fourth, pair(9633, 9633 - 3196));
    let odd = [
        Wide::products(seven, one, pair(-7373, 12_299 - 7373)).plus(shared_high),
        Wide::products(five, three, pair(-20_995, 25_172 - 20_995)).plus(shared_low),
        Wide::products(five, three, pair(16_819 - 20_995, -20_995)).plus(shared_high),
        Wide::products(seven, one, pair(2446 - 7373, -7373)).plus(shared_low),
    ];
    [
        even[0].plus(odd[0]).descale::<BITS>(),
        even[1].plus(odd[1]).descale::<BITS>(),
        even[2].plus(odd[2]).descale::<BITS>(),
        even[3].plus(odd[3]).descale::<BITS>(),
        even[3].minus(odd[3]).descale::<BITS>(),
        even[2].minus(odd[2]).descale::<BITS>(),
        even[1].minus(odd[1]).descale::<BITS>(),
        even[0].minus(odd[0]).descale::<BITS>(),
    ]
}

#[inline(always)]
fn transpose(rows: [m128i; 8]) -> [m128i; 8] {
    let (low, high) = (|a, b| unpack_low_i16_m128i(a, b), |a, b| unpack_high_i16_m128i(a, b));
    let a = [
        low(rows[0], rows[4]),
        high(rows[0], rows[4]),
        low(rows[1], rows[5]),
        high(rows[1], rows[5]),
        low(rows[2], rows[6]),
        high(rows[2], rows[6]),
        low(rows[3], rows[7]),
        high(rows[3], rows[7]),
    ];
    let b = [
        low(a[0], a[4]),
        high(a[0], a[4]),
        low(a[1], a[5]),
        high(a[1], a[5]),
        low(a[2], a[6]),
        high(a[2], a[6]),
        low(a[3], a[7]),
        high(a[3], a[7]),
    ];
    [
        low(b[0], b[4]),
        high(b[0], b[4]),
        low(b[1], b[5]),
        high(b[1], b[5]),
        low(b[2], b[6]),
        high(b[2], b[6]),
        low(b[3], b[7]),
        high(b[3], b[7]),
    ]
}

/// Returns the samples of a block of which not all coefficients after the first row are zero.
#[inline(always)]
pub(super) fn idct(block: &Block, Steps(steps): &Steps) -> [[u8; 8]; 8] {
    let mut rows = [zeroed_m128i(); 8];
    let parts = block.as_chunks::<8>().0.iter().zip(steps.as_chunks::<8>().0);
    for (row, (coefficients, steps)) in rows.iter_mut().zip(parts) {
        *row = mul_i16_keep_low_m128i(load(coefficients), load(steps));
    }
    let rows = transpose(pass::<18>(transpose(pass::<11>(rows))));
    let middle = m128i::from([0x80u8; 16]);
    let mut samples = [[0; 8]; 8];
    for half in 0..4 {
        let two = pack_i16_to_i8_m128i(rows[2 * half], rows[2 * half + 1]) ^ middle;
        samples[2 * half] = get_i64_from_m128i_s(two).to_le_bytes();
        samples[2 * half + 1] = get_i64_from_m128i_s(unpack_high_i64_m128i(two, two)).to_le_bytes();
    }
    samples
}

/// Converts a row of YCbCr to RGB, in groups of eight pixels, and returns how many pixels were converted.
pub(super) fn rgb_row(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut [u8]) -> usize {
    let (pixels, _) = pixels.as_chunks_mut::<24>();
    let done = pixels.len() * 8;
    let lumas = luma.as_chunks::<8>().0.iter();
    for (pixels, (luma, (blue, red))) in
        pixels.iter_mut().zip(lumas.zip(blue.as_chunks().0.iter().zip(red.as_chunks().0)))
    {
        eight(luma, blue, red, pixels);
    }
    done
}

/// Eight pixels. Factors above 16 bits are taken apart: 1.402 is 1 + 0.402, 1.772 is 2 - 0.228, and 0.714 is 1 - 0.286.
#[inline(always)]
fn eight(luma: &[u8; 8], blue: &[u8; 8], red: &[u8; 8], pixels: &mut [u8; 24]) {
    let zero = zeroed_m128i();
    let widen = |bytes: &[u8; 8]| unpack_low_i8_m128i(set_i64_m128i_s(i64::from_le_bytes(*bytes)), zero);
    let middle = set_splat_i16_m128i(128);
    let luma = widen(luma);
    let (blue, red) = (sub_i16_m128i(widen(blue), middle), sub_i16_m128i(widen(red), middle));
    let round = set_splat_i32_m128i(1 << 15);
    let shift = |products: Wide| {
        let part = |part| shr_imm_i32_m128i::<16>(add_i32_m128i(part, round));
        pack_i32_to_i16_m128i(part(products.0), part(products.1))
    };
    let r = add_i16_m128i(add_i16_m128i(luma, red), shift(Wide::products(red, zero, pair(26_345, 0))));
    let g = add_i16_m128i(sub_i16_m128i(luma, red), shift(Wide::products(blue, red, pair(-22_554, 18_734))));
    let twice = add_i16_m128i(blue, blue);
    let b = add_i16_m128i(add_i16_m128i(luma, twice), shift(Wide::products(blue, zero, pair(-14_942, 0))));
    // Red, green, blue and an unused byte: a pixel in 32 bits.
    let (red, green, blue) = (pack_i16_to_u8_m128i(r, r), pack_i16_to_u8_m128i(g, g), pack_i16_to_u8_m128i(b, b));
    let (two, one) = (unpack_low_i8_m128i(red, green), unpack_low_i8_m128i(blue, zero));
    let quads = [unpack_low_i16_m128i(two, one), unpack_high_i16_m128i(two, one)];
    for (quad, out) in quads.into_iter().zip(pixels.as_chunks_mut::<12>().0) {
        let pairs = [get_i64_from_m128i_s(quad) as u64, get_i64_from_m128i_s(unpack_high_i64_m128i(quad, quad)) as u64];
        let [first, second] = pairs.map(|pair| pair & 0xff_ffff | pair >> 32 << 24);
        out[..8].copy_from_slice(&(first | second << 48).to_le_bytes());
        out[8..].copy_from_slice(&((second >> 16) as u32).to_le_bytes());
    }
}
