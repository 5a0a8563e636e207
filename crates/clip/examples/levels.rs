//! Prints the pixels of images, for `scripts/test/compare_jpeg.py`. `levels` reads one file name per line. For each
//! file it prints the size and a digest of the stored RGB levels, or the reason why it cannot be read.

#![allow(clippy::unwrap_used, reason = "a tool of the tests fails by panicking")]

use std::io::BufRead;

use clip::{Filter, Format, GraphSpec, ImageSpec, Limits, Precision, image_info, image_tensor};
use sha2::{Digest, Sha256};

fn main() {
    let limits = Limits { bytes: u64::MAX, pixels: 64_000_000, formats: Format::ALL.to_vec() };
    for file in std::io::stdin().lock().lines() {
        let bytes = std::fs::read(file.unwrap()).unwrap();
        let result = image_info(&bytes, &limits).and_then(|info| {
            let (width, height) = (info.width, info.height);
            // No resize, no crop, no normalization.
            let spec = ImageSpec {
                graph: GraphSpec {
                    file: String::new(),
                    data: Vec::new(),
                    output: String::new(),
                    pooling: None,
                    alone: false,
                    precision: Precision::Single,
                },
                width,
                height,
                resize: None,
                resample: Filter::Bicubic,
                exif_orientation: false,
                rescale_factor: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
            };
            let planes = image_tensor(&bytes, &spec, &limits)?;
            let pixels = width as usize * height as usize;
            let rgb: Vec<u8> = (0..3 * pixels).map(|at| planes[at % 3 * pixels + at / 3] as u8).collect();
            Ok((width, height, Sha256::digest(&rgb)))
        });
        match result {
            Ok((width, height, digest)) => {
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("{width}x{height} {digest}");
            }
            Err(error) => println!("refused: {error:?}"),
        }
    }
}
