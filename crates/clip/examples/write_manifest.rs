//! Examine a model folder by running it, and write its `pg_clip.json`.
//!
//! Usage: write_manifest LIBONNXRUNTIME NAME FOLDER [LICENCE]

use std::path::Path;

use clip::{Format, Limits, Manifest, Options, Overflow};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, runtime, name, folder, license @ ..] = arguments.as_slice() else {
        return Err("usage: write_manifest LIBONNXRUNTIME NAME FOLDER [LICENCE]".into());
    };
    let options = Options {
        runtime: std::path::absolute(runtime)?,
        threads: 1,
        batch_size: 1,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 0, pixels: 0, formats: Format::ALL.to_vec() },
        interrupted: || false,
    };
    let folder = Path::new(folder);
    let manifest = Manifest::examine(folder, name, license.first().map(String::as_str), &options)?;
    manifest.write(folder)?;
    println!("{name}: {} dimensions, digest {}", manifest.dimensions, manifest.digest);
    Ok(())
}
