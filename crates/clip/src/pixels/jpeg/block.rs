//! Blocks of coefficients: their order and their quantization.

/// The 64 coefficients of a block in their natural order, as they are stored.
pub(super) type Block = [i16; 64];

/// Place of each coefficient in a block, by its place in the file. Damaged data may point to the second half.
pub(super) const NATURAL: [u8; 128] = {
    let mut order = [63; 128];
    let (mut row, mut column, mut place) = (0i32, 0i32, 0);
    while place < 64 {
        order[place] = (row * 8 + column) as u8;
        let up = (row + column) % 2 == 0;
        let (rise, step) = if up { (-1, 1) } else { (1, -1) };
        if up && column == 7 || !up && row == 7 {
            if up { row += 1 } else { column += 1 }
        } else if up && row == 0 || !up && column == 0 {
            if up { column += 1 } else { row += 1 }
        } else {
            row += rise;
            column += step;
        }
        place += 1;
    }
    order
};

/// The factors of the coefficients of a block.
pub(super) struct Steps(pub [i16; 64]);

impl Steps {
    pub fn new(steps: &[u16; 64]) -> Self {
        Self(steps.map(|step| step as i16))
    }
}
