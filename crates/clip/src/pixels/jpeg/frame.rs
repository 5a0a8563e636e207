//! The frame of a JPEG and its scans: sizes of its components in samples and in blocks.

use super::error::Result;

/// The coding of samples. The default is sequential, with Huffman codes.
#[derive(Clone, Copy, Default)]
pub(super) struct Coding {
    pub progressive: bool,
    pub lossless: bool,
    pub arithmetic: bool,
}

pub(super) struct Frame {
    pub coding: Coding,
    pub width: u32,
    pub height: u32,
    pub components: Vec<Component>,
    /// The largest sampling factors.
    pub horizontal: usize,
    pub vertical: usize,
    /// Rows of whole MCUs of all components.
    pub mcu_rows: usize,
    mcu_columns: usize,
}

/// One of the colors.
pub(super) struct Component {
    pub id: u8,
    pub horizontal: usize,
    pub vertical: usize,
    quantization: u8,
    /// Its quantization at the beginning of its first scan.
    pub steps: Option<[u16; 64]>,
    /// Numbers of the tables for DC and AC that the current scan names.
    pub tables: (u8, u8),
    /// Size in samples.
    pub width: usize,
    pub height: usize,
    /// Size in units (blocks, or samples of a lossless image), and with those that fill the last MCUs.
    pub columns: usize,
    pub rows: usize,
    pub stored_columns: usize,
    pub stored_rows: usize,
}

/// The content of a scan header.
pub(super) struct Scan {
    /// Places of its components in the frame.
    pub components: Vec<usize>,
    /// The first and the last coefficient, or the predictor of a lossless image.
    pub first: u8,
    pub last: u8,
    /// The bit before the first one of the scan, and its lowest bit.
    pub high: u8,
    pub low: u8,
}

/// One component's part of an MCU.
pub(super) struct Part {
    pub component: usize,
    pub columns: usize,
    pub rows: usize,
}

/// MCUs of a scan.
pub(super) struct Grid {
    pub columns: usize,
    pub parts: Vec<Part>,
    /// Blocks in an MCU.
    pub blocks: usize,
    is_interleaved: bool,
}

impl Component {
    pub fn new(id: u8, (horizontal, vertical): (u8, u8), quantization: u8) -> Self {
        let (horizontal, vertical) = (horizontal.into(), vertical.into());
        let (steps, tables) = (None, (0, 0));
        let (width, height, columns, rows, stored_columns, stored_rows) = (0, 0, 0, 0, 0, 0);
        Self {
            id,
            horizontal,
            vertical,
            quantization,
            steps,
            tables,
            width,
            height,
            columns,
            rows,
            stored_columns,
            stored_rows,
        }
    }

    /// Keeps the quantization that is valid at the beginning of the component's first scan.
    pub fn latch(&mut self, tables: &[Option<[u16; 64]>; 4]) -> Result<()> {
        if self.steps.is_none() {
            let table = tables.get(usize::from(self.quantization)).copied().flatten();
            self.steps = Some(table.ok_or("a quantization table is missing")?);
        }
        Ok(())
    }
}

impl Frame {
    /// Longest side that libjpeg accepts.
    const MAX_SIDE: u32 = 65_500;

    pub fn new(coding: Coding, [width, height]: [u32; 2], mut components: Vec<Component>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err("it has no pixels");
        }
        if width > Self::MAX_SIDE || height > Self::MAX_SIDE {
            return Err("a side is longer than 65,500 pixels");
        }
        if !(1..=4).contains(&components.len()) {
            return Err("only one to four components are supported");
        }
        if components.iter().any(|part| !(1..=4).contains(&part.horizontal) || !(1..=4).contains(&part.vertical)) {
            return Err("its sampling factors are not valid");
        }
        let horizontal = components.iter().map(|component| component.horizontal).max().unwrap_or(1);
        let vertical = components.iter().map(|component| component.vertical).max().unwrap_or(1);
        let unit = if coding.lossless { 1 } else { 8 };
        let mcu_columns = (width as usize).div_ceil(horizontal * unit);
        let mcu_rows = (height as usize).div_ceil(vertical * unit);
        for component in &mut components {
            if !horizontal.is_multiple_of(component.horizontal) || !vertical.is_multiple_of(component.vertical) {
                return Err("its sampling factors are no multiples of each other");
            }
            component.width = (width as usize * component.horizontal).div_ceil(horizontal);
            component.height = (height as usize * component.vertical).div_ceil(vertical);
            component.columns = component.width.div_ceil(unit);
            component.rows = component.height.div_ceil(unit);
            component.stored_columns = mcu_columns * component.horizontal;
            component.stored_rows = mcu_rows * component.vertical;
        }
        Ok(Self { coding, width, height, components, horizontal, vertical, mcu_rows, mcu_columns })
    }

    /// Returns the number of stored blocks, or samples of a lossless image.
    pub fn units(&self) -> u64 {
        self.components.iter().map(|part| part.stored_columns as u64 * part.stored_rows as u64).sum()
    }

    /// Returns the bytes of a row of MCUs of all components, as samples.
    pub fn row_bytes(&self) -> u64 {
        let unit = if self.coding.lossless { 1 } else { 64 };
        self.units() / (self.mcu_rows as u64).max(1) * unit
    }

    pub fn grid(&self, scan: &Scan) -> Result<Grid> {
        /// The limit of the standard.
        const MAX_BLOCKS: usize = 10;
        let one = |component: usize| Part { component, columns: 1, rows: 1 };
        if let [only] = scan.components[..] {
            let columns = self.components[only].columns;
            return Ok(Grid { columns, parts: vec![one(only)], blocks: 1, is_interleaved: false });
        }
        let whole = |&component: &usize| {
            let Component { horizontal, vertical, .. } = self.components[component];
            Part { columns: horizontal, rows: vertical, ..one(component) }
        };
        let parts: Vec<Part> = scan.components.iter().map(whole).collect();
        let blocks = parts.iter().map(|part| part.columns * part.rows).sum();
        if blocks > MAX_BLOCKS {
            return Err("an MCU has more than 10 blocks");
        }
        Ok(Grid { columns: self.mcu_columns, parts, blocks, is_interleaved: true })
    }
}

impl Grid {
    /// Returns the rows of MCUs of the scan in one row of MCUs of the frame.
    pub fn rows(&self, frame: &Frame, mcu_row: usize) -> usize {
        if self.is_interleaved {
            return 1;
        }
        let component = &frame.components[self.parts[0].component];
        component.vertical.min(component.rows.saturating_sub(mcu_row * component.vertical))
    }
}
