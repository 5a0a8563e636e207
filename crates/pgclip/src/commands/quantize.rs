//! `pgclip quantize`: a faster model with 8-bit or bf16 weights, and its similarity to the original.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clip::{Embedding, Error, Format, Limits, Model, Options, Provider, SAMPLE_TEXTS, Tower, admin};
use serde::Serialize;

use crate::commands::prepare::prepare_added;
use crate::commands::session::{Session, interrupted, options};
use crate::failure::Failure;
use crate::output::{self, Bar};
use crate::quantize_arguments::{QuantizeArguments, TowerArgument, WeightsArgument};

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

/// A model, and the options with which it runs.
type Opened<'o> = (Model, &'o Options);

impl WeightsArgument {
    /// Returns the end of the new model's name.
    fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
        }
    }

    /// Returns what limits the gain on this machine.
    fn note(self, provider: Provider) -> Option<&'static str> {
        match self {
            Self::Int8 if !clip::cpu_features().contains("vnni") => {
                Some("This processor has no VNNI: the gain is small here, and sums may saturate.")
            }
            Self::Bf16 if provider == Provider::Cpu => {
                Some("The provider cpu computes bf16 weights in fp32, without a gain: see --provider.")
            }
            Self::Bf16 if provider == Provider::OpenVino && !clip::has_bf16() => {
                Some("This processor has no bf16 units: OpenVINO computes bf16 weights in fp32 here.")
            }
            Self::Int8 | Self::Bf16 => None,
        }
    }
}

impl Session {
    pub fn quantize(&self, name: &str, new_name: Option<String>, wanted: &QuantizeArguments) -> Result<(), Failure> {
        let models = self.place.models()?;
        let (weights, provider) = (wanted.weights, wanted.provider);
        let new_name = new_name.unwrap_or_else(|| format!("{name}-{}", weights.name()));
        let runtime = self.place.runtime_with(provider)?;
        let options = Options { runtime, limits: limits(), ..options(&self.place)? };
        let towers: &[Tower] = match wanted.tower {
            TowerArgument::Both => &[Tower::Text, Tower::Image],
            TowerArgument::Text => &[Tower::Text],
            TowerArgument::Image => &[Tower::Image],
        };
        // The provider is checked and the samples are read before minutes of work begin.
        clip::check_provider(provider, &options.runtime)?;
        let texts = wanted.texts.as_deref().map_or_else(|| Ok(SAMPLE_TEXTS.map(Into::into).into()), texts)?;
        let images = if wanted.images.is_empty() { (0..DRAWN).map(drawn).collect() } else { images(&wanted.images)? };
        let mut bar = Bar::new();
        let made = (weights.into(), towers);
        let made = admin::quantize(&models, name, &new_name, made, &options, &mut |file, size, done| {
            bar.set(file, size, done);
        });
        bar.finish();
        let manifest = made?;
        // A library with another provider is usually not the one of the sessions.
        let prepared = provider == Provider::Cpu && prepare_added(&models, &new_name, &options)?;

        let of_provider = Options { provider, ..options.clone() };
        let open = |name: &str| Model::open(&models.join(name), name, interrupted);
        let (mut original, mut quantized) = ((open(name)?, &options), (open(&new_name)?, &of_provider));
        for &tower in towers {
            quantized.0.load(tower, &of_provider).map_err(|error| {
                let hint =
                    format!("{new_name} is created, and the provider cpu computes it: pgclip prepare {new_name}");
                Failure::from(error).hint(hint)
            })?;
        }
        let mut compared = Vec::new();
        for &tower in towers {
            compared.push(match tower {
                Tower::Text => compare(tower, &texts, &mut original, &mut quantized, |model, text| {
                    Ok(model.0.embed_texts(&[text], model.1)?.remove(0).embedding)
                }),
                Tower::Image => compare(tower, &images, &mut original, &mut quantized, |model, image| {
                    Ok(model.0.embed_images(&[image], model.1)?.remove(0))
                }),
            }?);
        }
        let size = [original.0.manifest().size_bytes(), manifest.size_bytes()];
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
        if let Some(note) = weights.note(provider) {
            output::line(&format!("\n{note}"))?;
        }
        if !prepared {
            output::line(&format!("\nSessions cannot share the weights yet: pgclip prepare {new_name}"))?;
        }
        Ok(())
    }
}

/// Embeds each sample with one model and then with the other, so that other load on the machine affects both.
fn compare<'o, S: AsRef<T>, T: ?Sized>(
    tower: Tower,
    samples: &[S],
    original: &mut Opened<'o>,
    quantized: &mut Opened<'o>,
    embed: impl Fn(&mut Opened<'o>, &T) -> Result<Embedding, Error>,
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
