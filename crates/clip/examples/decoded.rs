//! What images are decoded to: `decoded MODEL_FOLDER` reads the names of files from its standard input, a line each, and
//! writes for each a line `WIDTH HEIGHT` with that many pixels behind it, or a line `! REASON`. Comparisons with Pillow use it.

#![allow(clippy::unwrap_used, reason = "a tool of the tests fails by panicking")]

use std::io::{BufRead, Write};
use std::path::Path;

use clip::{Format, ImageSpec, Limits, Model};

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: decoded MODEL_FOLDER < NAMES");
    let folder = Path::new(&folder);
    let name = folder.file_name().unwrap().to_str().unwrap();
    let spec = Model::open(folder, name, || false).unwrap().manifest().image.clone();
    let limits = Limits { bytes: 1 << 25, pixels: 1 << 26, formats: Format::ALL.to_vec() };
    let mut out = std::io::stdout().lock();
    for file in std::io::stdin().lock().lines() {
        let bytes = std::fs::read(file.unwrap()).unwrap();
        match pixels(&bytes, &spec, &limits) {
            Ok((width, height, pixels)) => {
                writeln!(out, "{width} {height}").unwrap();
                out.write_all(&pixels).unwrap();
            }
            Err(error) => writeln!(out, "! {error}").unwrap(),
        }
        out.flush().unwrap();
    }
}

/// The pixels of an image as it is decoded, upright and in its own size.
fn pixels(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> Result<(u32, u32, Vec<u8>), clip::Error> {
    const TURNED: u8 = 5;
    let info = clip::image_info(bytes, limits)?;
    let (width, height) = if info.orientation < TURNED { (info.width, info.height) } else { (info.height, info.width) };
    let plain = ImageSpec {
        resize: None,
        width,
        height,
        rescale_factor: 1.0,
        exif_orientation: true,
        mean: [0.0; 3],
        std: [1.0; 3],
        ..spec.clone()
    };
    let tensor = clip::image_tensor(bytes, &plain, limits)?;
    let planes: Vec<&[f32]> = tensor.chunks_exact(tensor.len() / 3).collect();
    let pixels =
        (0..planes[0].len()).flat_map(|at| [planes[0][at], planes[1][at], planes[2][at]].map(|level| level as u8));
    Ok((width, height, pixels.collect()))
}
