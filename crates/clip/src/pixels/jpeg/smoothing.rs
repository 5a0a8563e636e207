//! Coefficients of a progressive image that its scans leave open, estimated from the blocks around: as libjpeg does
//! where an image ends before its last scans.

use super::block::{Block, NATURAL};
use super::frame::{Component, Frame, Scan};

/// The known bits of each coefficient: none (-1), or all except so many.
pub(super) type Known = [i8; 64];

pub(super) const UNKNOWN: Known = [-1; 64];

/// Coefficients that are estimated, in the order of the file; the first is the mean.
const ESTIMATED: usize = 10;

type Kernel = [[i32; 5]; 5];

/// Where a block is.
pub(super) struct Place {
    pub mcu_row: usize,
    pub row: usize,
    pub column: usize,
}

/// Records the bits of a component that a scan contains.
pub(super) fn note(known: &mut Known, before: &mut Known, scan: &Scan, number: u32) {
    let (first, last) = (usize::from(scan.first), usize::from(scan.last).min(63));
    for place in first.min(1)..=last.max(ESTIMATED - 1) {
        before[place] = if number > 1 { known[place] } else { 0 };
    }
    if first <= last {
        known[first..=last].fill(scan.low as i8);
    }
}

/// Returns true if the first coefficients are open, and can be estimated.
pub(super) fn is_useful(frame: &Frame, known: &[Known]) -> bool {
    let can_be = |(component, known): (&Component, &Known)| {
        let mut places = NATURAL[..ESTIMATED].iter();
        known[0] >= 0 && component.steps.is_some_and(|steps| places.all(|&place| steps[usize::from(place)] != 0))
    };
    frame.components.iter().zip(known).all(can_be)
        && known.iter().any(|known| known[1..ESTIMATED].iter().any(|&bits| bits != 0))
}

/// Returns the block with its open coefficients estimated.
pub(super) fn smooth(frame: &Frame, component: &Component, blocks: &[Block], place: &Place, known: &Known) -> Block {
    let mut block = blocks[place.row * component.stored_columns + place.column];
    let Some(steps) = component.steps else { return block };
    let means = means(frame, component, blocks, place);
    // Where no other coefficient is known, the mean too.
    let is_mean_open = known[1..ESTIMATED].iter().all(|&bits| bits == -1);
    let kernels: &[Kernel] = if is_mean_open { &OPEN } else { &PLAIN };
    let sum = |kernel: &Kernel| {
        let products = kernel.iter().flatten().zip(means.iter().flatten());
        i64::from(steps[0]) * products.map(|(&weight, &mean)| i64::from(weight) * i64::from(mean)).sum::<i64>()
    };
    let estimate = |kernel: &Kernel, natural: usize, bits: i8| {
        let (sum, step) = (sum(kernel), i64::from(steps[natural]));
        let mut size = ((step << 7) + sum.abs()) / (step << 8);
        if bits > 0 && size >= 1 << bits {
            size = (1 << bits) - 1;
        }
        (if sum < 0 { -size } else { size }) as i16
    };
    for (place, kernel) in (1..).zip(kernels) {
        let natural = usize::from(NATURAL[place]);
        if known[place] != 0 && block[natural] == 0 {
            block[natural] = estimate(kernel, natural, known[place]);
        }
    }
    if is_mean_open {
        block[0] = estimate(&MEAN, 0, 0);
    }
    block
}

/// Returns the means of the 25 blocks around, those at an edge more than once.
fn means(frame: &Frame, component: &Component, blocks: &[Block], &Place { mcu_row, row, column }: &Place) -> Kernel {
    // libjpeg counts rows as if all rows of MCUs had as many as this one.
    let in_mcu = row - mcu_row * component.vertical;
    let counted = component.vertical.min(component.rows - mcu_row * component.vertical);
    let (at, end) = (mcu_row * counted + in_mcu, counted * frame.mcu_rows);
    let above = if at > 0 { row - 1 } else { row };
    let above_twice = if at > 1 { row - 2 } else { above };
    let below = if at + 1 < end { row + 1 } else { row };
    let below_twice = if at + 2 < end { row + 2 } else { below };
    [above_twice, above, row, below, below_twice].map(|row| {
        let row = &blocks[row * component.stored_columns..][..component.columns];
        let last = component.columns - 1;
        [0, 1, 2, 3, 4].map(|step| i32::from(row[(column + step).saturating_sub(2).min(last)][0]))
    })
}

/// Weights of the means around for each coefficient, where some are known.
#[rustfmt::skip]
const PLAIN: [Kernel; 5] = [
    [[0; 5], [0; 5], [-7, 50, 0, -50, 7], [0; 5], [0; 5]],
    [[0, 0, -7, 0, 0], [0, 0, 50, 0, 0], [0; 5], [0, 0, -50, 0, 0], [0, 0, 7, 0, 0]],
    [[0, 0, -1, 0, 0], [0, 0, 13, 0, 0], [0, 0, -24, 0, 0], [0, 0, 13, 0, 0], [0, 0, -1, 0, 0]],
    [[0, -1, 0, 1, 0], [-1, 10, 0, -10, 1], [0; 5], [1, -10, 0, 10, -1], [0, 1, 0, -1, 0]],
    [[0; 5], [0; 5], [-1, 13, -24, 13, -1], [0; 5], [0; 5]],
];

/// The same where none is known.
#[rustfmt::skip]
const OPEN: [Kernel; 9] = [
    [[-1, -1, 0, 1, 1], [-3, 13, 0, -13, 3], [-3, 38, 0, -38, 3], [-3, 13, 0, -13, 3], [-1, -1, 0, 1, 1]],
    [[-1, -3, -3, -3, -1], [-1, 13, 38, 13, -1], [0; 5], [1, -13, -38, -13, 1], [1, 3, 3, 3, 1]],
    [[0, 0, 1, 0, 0], [0, 2, 7, 2, 0], [0, -5, -14, -5, 0], [0, 2, 7, 2, 0], [0, 0, 1, 0, 0]],
    [[-1, 0, 0, 0, 1], [0, 9, 0, -9, 0], [0; 5], [0, -9, 0, 9, 0], [1, 0, 0, 0, -1]],
    [[0; 5], [0, 2, -5, 2, 0], [1, 7, -14, 7, 1], [0, 2, -5, 2, 0], [0; 5]],
    [[0; 5], [0, 1, 0, -1, 0], [0, 2, 0, -2, 0], [0, 1, 0, -1, 0], [0; 5]],
    [[0; 5], [0, 1, -3, 1, 0], [0; 5], [0, -1, 3, -1, 0], [0; 5]],
    [[0; 5], [0, 1, 0, -1, 0], [0, -3, 0, 3, 0], [0, 1, 0, -1, 0], [0; 5]],
    [[0; 5], [0, 1, 2, 1, 0], [0; 5], [0, -1, -2, -1, 0], [0; 5]],
];

/// Weights for the mean itself.
const MEAN: Kernel =
    [[-2, -6, -8, -6, -2], [-6, 6, 42, 6, -6], [-8, 42, 152, 42, -8], [-6, 6, 42, 6, -6], [-2, -6, -8, -6, -2]];
