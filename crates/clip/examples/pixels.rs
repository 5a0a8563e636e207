//! Measures the conversion of images to tensors: `pixels MODEL_DIRECTORY FILE…` prints a line per file, with the
//! milliseconds of its fastest and of its median run. Part of `make bench`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;
use std::time::Instant;

use clip::{Format, Limits, Model};

/// Runs per file: sufficient for a minimum without disturbances.
const RUNS: usize = 40;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().expect("usage: pixels MODEL_FOLDER FILE…");
    let folder = Path::new(&folder);
    let name = folder.file_name().unwrap().to_str().unwrap();
    let spec = Model::open(folder, name, || false).unwrap().manifest().image.clone();
    let limits = Limits { bytes: u64::MAX, pixels: u64::MAX, formats: Format::ALL.to_vec() };
    for file in arguments {
        let bytes = std::fs::read(&file).unwrap();
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                let begun = Instant::now();
                std::hint::black_box(clip::image_tensor(&bytes, &spec, &limits).unwrap());
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{}\t{:.3}\t{:.3}", Path::new(&file).display(), times[0], times[RUNS / 2]);
    }
}
