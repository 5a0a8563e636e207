//! The two kernels that take most of the time, in instructions that every processor of x86-64 has. Nothing here
//! touches memory by an address. Other processors have the same kernels in plain Rust.

use std::arch::x86_64::*;

use super::colors::rgb;
use super::idct::Steps;
use super::scan::Block;

#[inline]
#[target_feature(enable = "sse2")]
fn load(values: &[i16; 8]) -> __m128i {
    let [a, b, c, d, e, f, g, h] = *values;
    _mm_setr_epi16(a, b, c, d, e, f, g, h)
}

/// Pairs of factors, in fixed point with 13 bits.
#[inline]
#[target_feature(enable = "sse2")]
fn pair(first: i16, second: i16) -> __m128i {
    _mm_setr_epi16(first, second, first, second, first, second, first, second)
}

/// Eight numbers of 32 bits.
#[derive(Clone, Copy)]
struct Wide(__m128i, __m128i);

impl Wide {
    /// `left * first + right * second`.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn products(left: __m128i, right: __m128i, factors: __m128i) -> Self {
        Self(
            _mm_madd_epi16(_mm_unpacklo_epi16(left, right), factors),
            _mm_madd_epi16(_mm_unpackhi_epi16(left, right), factors),
        )
    }

    /// Numbers of 16 bits times 1 << 13.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn of(values: __m128i) -> Self {
        let zero = _mm_setzero_si128();
        Self(
            _mm_srai_epi32::<3>(_mm_unpacklo_epi16(zero, values)),
            _mm_srai_epi32::<3>(_mm_unpackhi_epi16(zero, values)),
        )
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn plus(self, other: Self) -> Self {
        Self(_mm_add_epi32(self.0, other.0), _mm_add_epi32(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn minus(self, other: Self) -> Self {
        Self(_mm_sub_epi32(self.0, other.0), _mm_sub_epi32(self.1, other.1))
    }

    /// Rounded, and cut to 16 bits.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn descale<const BITS: i32>(self) -> __m128i {
        let round = _mm_set1_epi32(1 << (BITS - 1));
        let shifted = |part| _mm_srai_epi32::<BITS>(_mm_add_epi32(part, round));
        _mm_packs_epi32(shifted(self.0), shifted(self.1))
    }
}

/// One of the two passes of the cosine transform.
#[inline]
#[target_feature(enable = "sse2")]
fn pass<const BITS: i32>(rows: [__m128i; 8]) -> [__m128i; 8] {
    let [zero, one, two, three, four, five, six, seven] = rows;
    let high = Wide::products(two, six, pair(4433 + 6270, 4433));
    let low = Wide::products(two, six, pair(4433, 4433 - 15_137));
    let sum = Wide::of(_mm_add_epi16(zero, four));
    let difference = Wide::of(_mm_sub_epi16(zero, four));
    let even = [sum.plus(high), difference.plus(low), difference.minus(low), sum.minus(high)];

    let (third, fourth) = (_mm_add_epi16(seven, three), _mm_add_epi16(five, one));
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

#[inline]
#[target_feature(enable = "sse2")]
fn transpose(rows: [__m128i; 8]) -> [__m128i; 8] {
    let (low, high) = (|a, b| _mm_unpacklo_epi16(a, b), |a, b| _mm_unpackhi_epi16(a, b));
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

/// The samples of a block of which not all coefficients after the first row are zero.
#[inline]
#[target_feature(enable = "sse2")]
pub(super) fn idct(block: &Block, Steps(steps): &Steps) -> [[u8; 8]; 8] {
    let mut rows = [_mm_setzero_si128(); 8];
    let parts = block.as_chunks::<8>().0.iter().zip(steps.as_chunks::<8>().0);
    for (row, (coefficients, steps)) in rows.iter_mut().zip(parts) {
        *row = _mm_mullo_epi16(load(coefficients), load(steps));
    }
    let rows = transpose(pass::<18>(transpose(pass::<11>(rows))));
    let middle = _mm_set1_epi8(-128);
    let mut samples = [[0; 8]; 8];
    for half in 0..4 {
        let two = _mm_xor_si128(_mm_packs_epi16(rows[2 * half], rows[2 * half + 1]), middle);
        samples[2 * half] = _mm_cvtsi128_si64(two).to_le_bytes();
        samples[2 * half + 1] = _mm_cvtsi128_si64(_mm_unpackhi_epi64(two, two)).to_le_bytes();
    }
    samples
}

/// RGB of a row of YCbCr.
#[target_feature(enable = "sse2")]
pub(super) fn rgb_row(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut [u8]) {
    let (pixels, rest) = pixels.as_chunks_mut::<24>();
    let done = pixels.len() * 8;
    let lumas = luma.as_chunks::<8>().0.iter();
    for (pixels, (luma, (blue, red))) in
        pixels.iter_mut().zip(lumas.zip(blue.as_chunks().0.iter().zip(red.as_chunks().0)))
    {
        eight(luma, blue, red, pixels);
    }
    let colours = luma[done..].iter().zip(&blue[done..]).zip(&red[done..]);
    for (pixel, ((&luma, &blue), &red)) in rest.chunks_exact_mut(3).zip(colours) {
        pixel.copy_from_slice(&rgb(luma, blue, red));
    }
}

/// Eight pixels. Factors above 16 bits are taken apart: 1.402 is 1 + 0.402, 1.772 is 2 - 0.228, and 0.714 is 1 - 0.286.
#[inline]
#[target_feature(enable = "sse2")]
fn eight(luma: &[u8; 8], blue: &[u8; 8], red: &[u8; 8], pixels: &mut [u8; 24]) {
    let zero = _mm_setzero_si128();
    let widen = |bytes: &[u8; 8]| _mm_unpacklo_epi8(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes)), zero);
    let middle = _mm_set1_epi16(128);
    let luma = widen(luma);
    let (blue, red) = (_mm_sub_epi16(widen(blue), middle), _mm_sub_epi16(widen(red), middle));
    let round = _mm_set1_epi32(1 << 15);
    let shift = |products: Wide| {
        let part = |part| _mm_srai_epi32::<16>(_mm_add_epi32(part, round));
        _mm_packs_epi32(part(products.0), part(products.1))
    };
    let r = _mm_add_epi16(_mm_add_epi16(luma, red), shift(Wide::products(red, zero, pair(26_345, 0))));
    let g = _mm_add_epi16(_mm_sub_epi16(luma, red), shift(Wide::products(blue, red, pair(-22_554, 18_734))));
    let twice = _mm_add_epi16(blue, blue);
    let b = _mm_add_epi16(_mm_add_epi16(luma, twice), shift(Wide::products(blue, zero, pair(-14_942, 0))));
    // Bytes of red and green, and of blue and nothing, side by side: a pixel in 32 bits.
    let (red, green, blue) = (_mm_packus_epi16(r, r), _mm_packus_epi16(g, g), _mm_packus_epi16(b, b));
    let (two, one) = (_mm_unpacklo_epi8(red, green), _mm_unpacklo_epi8(blue, zero));
    let quads = [_mm_unpacklo_epi16(two, one), _mm_unpackhi_epi16(two, one)];
    for (quad, out) in quads.into_iter().zip(pixels.as_chunks_mut::<12>().0) {
        let pairs = [_mm_cvtsi128_si64(quad) as u64, _mm_cvtsi128_si64(_mm_unpackhi_epi64(quad, quad)) as u64];
        let [first, second] = pairs.map(|pair| pair & 0xff_ffff | pair >> 32 << 24);
        out[..8].copy_from_slice(&(first | second << 48).to_le_bytes());
        out[8..].copy_from_slice(&((second >> 16) as u32).to_le_bytes());
    }
}
