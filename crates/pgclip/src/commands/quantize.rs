//! `pgclip quantize`: a faster model with 8-bit weights, and its similarity to the original.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clip::{Embedding, Error, Format, Limits, Model, Options, Tower, admin};
use serde::Serialize;

use crate::cli::{QuantizeArguments, TowerArgument};
use crate::commands::prepare::prepare_added;
use crate::commands::session::{Session, interrupted, options};
use crate::failure::Failure;
use crate::output::{self, Bar};

/// Texts to compare if the user passes none.
const TEXTS: [&str; 16] = [
    "a red car",
    "a small dog on a sofa",
    "two people walking on the beach",
    "a bowl of soup",
    "a city at night",
    "a child with a blue balloon",
    "a wooden chair",
    "an old stone bridge over a river",
    "a white cat",
    "a mountain lake in autumn",
    "a pair of running shoes",
    "a bunch of flowers in a vase",
    "a football match",
    "an aeroplane in the sky",
    "a slice of cake",
    "a dark forest",
];

/// Number of drawn images to compare if the user passes none, and their sides in pixels.
const DRAWN: u32 = 8;
const SIDE: u32 = 96;

/// Limits of the images that are compared. They are the server's defaults.
const MAX_BYTES: u64 = 32 << 20;
const MAX_PIXELS: u64 = 64_000_000;

/// The similarity of a tower's embeddings to those of the original.
#[derive(Serialize)]
struct Comparison {
    tower: &'static str,
    samples: usize,
    least_cosine: f64,
    mean_cosine: f64,
    /// Samples whose nearest other sample is the same in both models.
    same_nearest: usize,
    original_ms: f64,
    quantized_ms: f64,
}

impl Session {
    pub fn quantize(&self, name: &str, new_name: Option<String>, wanted: &QuantizeArguments) -> Result<(), Failure> {
        let models = self.place.models()?;
        let new_name = new_name.unwrap_or_else(|| format!("{name}-int8"));
        let options = Options { limits: limits(), ..options(&self.place)? };
        let towers: &[Tower] = match wanted.tower {
            TowerArgument::Both => &[Tower::Text, Tower::Image],
            TowerArgument::Text => &[Tower::Text],
            TowerArgument::Image => &[Tower::Image],
        };
        // The samples are read before minutes of work begin.
        let texts = wanted.texts.as_deref().map_or_else(|| Ok(TEXTS.map(Into::into).into()), texts)?;
        let images = if wanted.images.is_empty() { (0..DRAWN).map(drawn).collect() } else { images(&wanted.images)? };
        let mut bar = Bar::new();
        let made = admin::quantize(&models, name, &new_name, towers, &options, &mut |file, size, done| {
            bar.set(file, size, done);
        });
        bar.finish();
        let manifest = made?;
        let prepared = prepare_added(&models, &new_name, &options)?;

        let open = |name: &str| Model::open(&models.join(name), name, interrupted);
        let (mut original, mut quantized) = (open(name)?, open(&new_name)?);
        let mut compared = Vec::new();
        for &tower in towers {
            compared.push(match tower {
                Tower::Text => compare(tower, &texts, &mut original, &mut quantized, |model, text| {
                    Ok(model.embed_texts(&[text], &options)?.remove(0).embedding)
                }),
                Tower::Image => compare(tower, &images, &mut original, &mut quantized, |model, image| {
                    Ok(model.embed_images(&[image], &options)?.remove(0))
                }),
            }?);
        }
        let size = [original.manifest().size_bytes(), manifest.size_bytes()];
        if self.json {
            let mut described = output::describe(&manifest, prepared)?;
            described["comparison"] = serde_json::to_value(&compared).map_err(Failure::new)?;
            return output::json(&described);
        }
        output::line(&format!("Made {new_name}: {}, {name} has {}\n", output::size(size[1]), output::size(size[0])))?;
        let row = |of: &Comparison| {
            [
                of.tower.into(),
                of.samples.to_string(),
                format!("{:.5}", of.least_cosine),
                format!("{:.5}", of.mean_cosine),
                format!("{} of {}", of.same_nearest, of.samples),
                format!("{:.1} → {:.1} ms", of.original_ms, of.quantized_ms),
                format!("{:.2} ×", of.original_ms / of.quantized_ms),
            ]
        };
        let titles = ["TOWER", "SAMPLES", "MIN COSINE", "MEAN COSINE", "SAME NEAREST", "ONE AT A TIME", "FASTER"];
        output::table(titles, &compared.iter().map(row).collect::<Vec<_>>())?;
        let little = |tower, given: bool| towers.contains(&tower) && !given;
        if little(Tower::Image, !wanted.images.is_empty()) || little(Tower::Text, wanted.texts.is_some()) {
            output::line("\nThe built-in samples are not representative: pass your own (--images, --texts).")?;
        }
        if !clip::cpu_features().contains("vnni") {
            output::line("\nThis processor has no VNNI: the gain is small here, and sums may saturate.")?;
        }
        Ok(())
    }
}

/// Embeds each sample with one model and then with the other, so that other load on the machine affects both.
fn compare<S: AsRef<T>, T: ?Sized>(
    tower: Tower,
    samples: &[S],
    original: &mut Model,
    quantized: &mut Model,
    embed: impl Fn(&mut Model, &T) -> Result<Embedding, Error>,
) -> Result<Comparison, Failure> {
    let mut rows: [Vec<Embedding>; 2] = [Vec::new(), Vec::new()];
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    if let Some(first) = samples.first() {
        embed(original, first.as_ref()).and_then(|_| embed(quantized, first.as_ref()))?;
    }
    for sample in samples {
        for (which, model) in [&mut *original, &mut *quantized].into_iter().enumerate() {
            let begun = Instant::now();
            rows[which].push(embed(model, sample.as_ref())?);
            times[which].push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [originals, quantizeds] = &rows;
    let cosines: Vec<f64> = originals.iter().zip(quantizeds).map(|(one, other)| one.cosine(other)).collect();
    let nearest = |rows: &[Embedding], of: usize| {
        let others = (0..rows.len()).filter(|&other| other != of);
        others.max_by(|&a, &b| rows[of].cosine(&rows[a]).total_cmp(&rows[of].cosine(&rows[b])))
    };
    let [original_ms, quantized_ms] = times.map(median);
    Ok(Comparison {
        tower: tower.name(),
        samples: samples.len(),
        least_cosine: cosines.iter().copied().fold(f64::INFINITY, f64::min),
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len() as f64,
        same_nearest: (0..samples.len()).filter(|&of| nearest(originals, of) == nearest(quantizeds, of)).count(),
        original_ms,
        quantized_ms,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn limits() -> Limits {
    Limits { bytes: MAX_BYTES, pixels: MAX_PIXELS, formats: Format::ALL.to_vec() }
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn texts(file: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(Into::into).collect();
    match lines.as_slice() {
        [] => Err(unreadable(file, "there is no text in it")),
        _ => Ok(lines),
    }
}

/// Returns the images among these files and in these directories. Other files are reported and skipped.
fn images(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(|error| unreadable(path, error))?;
            files.extend(entries.flatten().map(|entry| entry.path()).filter(|file| file.is_file()));
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    let limits = limits();
    let mut images = Vec::new();
    for file in files {
        let bytes = fs::read(&file).map_err(|error| unreadable(&file, error))?;
        match clip::image_info(&bytes, &limits) {
            Ok(_) => images.push(bytes),
            Err(error) => eprintln!("pgclip: {} is left out: {error}", file.display()),
        }
    }
    match images.as_slice() {
        [] => Err(Failure::new("the samples contain no image")),
        _ => Ok(images),
    }
}

/// Returns an image of colored waves, as a BMP file of 24 bits.
fn drawn(number: u32) -> Vec<u8> {
    const HEADER: u32 = 54;
    let size = HEADER + SIDE * SIDE * 3;
    let mut bytes = b"BM".to_vec();
    for value in [size, 0, HEADER, 40, SIDE, SIDE, 1 | 24 << 16, 0, size - HEADER, 0, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    let wave = |along: u32, period: u32, shift: u32| ((along * period + shift * 37) % 256) as u8;
    for y in 0..SIDE {
        for x in 0..SIDE {
            bytes.extend([wave(x, number + 1, number), wave(y, 2 * number + 1, 1), wave(x + y, number % 3 + 1, 5)]);
        }
    }
    bytes
}
