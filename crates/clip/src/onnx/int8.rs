//! Matrices of 8-bit integers with a scale for each column.

/// The largest byte. The range is symmetric, so that zero stays zero; -128 is not used.
const MAX: f32 = 127.0;

/// Returns the bytes of a matrix, row by row, and the scale of each column. None if a value is not finite.
pub(super) fn quantize_columns(values: &[f32], columns: usize) -> Option<(Vec<u8>, Vec<f32>)> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let mut largest = vec![0.0_f32; columns];
    for row in values.chunks_exact(columns) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    // Divided in double precision, then rounded once, as onnxruntime does it. The scale of a column of zeros does not
    // matter.
    let scale = |largest: f32| (f64::from(largest) / f64::from(MAX)) as f32;
    let scales: Vec<f32> =
        largest.iter().map(|&largest| if scale(largest) < f32::MIN_POSITIVE { 1.0 } else { scale(largest) }).collect();
    let rows = values.chunks_exact(columns).flat_map(|row| row.iter().zip(&scales));
    let bytes = rows.map(|(value, scale)| (value / scale).round_ties_even().clamp(-MAX, MAX) as i8 as u8);
    Some((bytes.collect(), scales))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_a_scale_of_its_own_and_zero_stays_zero() {
        let (bytes, scales) = quantize_columns(&[1.0, 0.0, 200.0, -0.5, 0.0, -254.0], 3).unwrap();
        assert_eq!(scales, [1.0 / 127.0, 1.0, 2.0]);
        assert_eq!(bytes.iter().map(|&byte| byte as i8).collect::<Vec<_>>(), [127, 0, 100, -64, 0, -127]);
        assert!(quantize_columns(&[1.0, f32::NAN], 2).is_none());
        assert!(quantize_columns(&[f32::INFINITY, 1.0, 0.0, 1.0], 2).is_none());
    }
}
