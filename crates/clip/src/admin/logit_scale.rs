//! The learned logit scale and logit bias: read from the weights, or measured with a graph that computes logits. The
//! values in the configuration are those at the beginning of the training, so they are never used.
//!
//! External crate: `serde_json`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use serde_json::Value;

use crate::embedding::cosine;
use crate::error::Error;
use crate::folder::Folder;
use crate::import::choices::Logits;
use crate::import::config::Configuration;
use crate::import::tokenizer::describe;
use crate::options::Options;
use crate::recipe::Loss;
use crate::runtime::library::Runtime;
use crate::runtime::session::Graph;
use crate::samples::stripes;
use crate::tokenizer::{self, TextTokenizer};

const WEIGHTS: &str = "model.safetensors";

/// Largest header of a weights file. Those of CLIP models have some hundred kilobytes.
const MAX_HEADER_BYTES: u64 = 16 * 1024 * 1024;

const LOGITS: &str = "logits_per_text";

/// Texts whose cosines with one image differ enough to fit a line.
const TEXTS: [&str; 6] = ["a photo of a cat", "two dogs", "", "night", "a red car in the street", "42"];

/// Returns the values from the weights of the original model, if its file is in the folder.
pub(crate) fn from_safetensors(folder: Folder<'_>) -> Result<Option<Logits>, Error> {
    if !folder.has(WEIGHTS) {
        return Ok(None);
    }
    let scalars = read_scalars(folder).map_err(|error| folder.unreadable(WEIGHTS, error))?;
    let [scale, bias] = scalars.map(|value| value.filter(|value| value.is_finite()));
    Ok(scale.map(|scale| (scale.exp(), bias)))
}

/// Returns `logit_scale` and `logit_bias`, where they are single-precision scalars.
fn read_scalars(folder: Folder<'_>) -> io::Result<[Option<f64>; 2]> {
    let mut file = File::open(folder.path.join(WEIGHTS))?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(io::Error::other("its header is too long"));
    }
    let mut header = Vec::new();
    (&mut file).take(length).read_to_end(&mut header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let mut scalar = |name: &str| -> io::Result<Option<f64>> {
        let tensor = &header[name];
        let (Some("F32"), Some(begin)) = (tensor["dtype"].as_str(), tensor["data_offsets"][0].as_u64()) else {
            return Ok(None);
        };
        let mut value = [0; 4];
        file.seek(SeekFrom::Start((8 + length).saturating_add(begin)))?;
        file.read_exact(&mut value)?;
        Ok(Some(f32::from_le_bytes(value).into()))
    };
    Ok([scalar("logit_scale")?, scalar("logit_bias")?])
}

/// Measures the values with a graph that has both towers. Returns None if it has no output with logits.
pub(crate) fn measure(
    folder: Folder<'_>,
    whole: &str,
    config: &Configuration,
    options: &Options,
) -> Result<Option<Logits>, Error> {
    let (text, _) = describe(folder, config)?;
    let image = &config.image;
    let tokens = TextTokenizer::open(folder, &text)?;
    let texts = TEXTS.map(|text| tokens.encode(text).map(|encoded| encoded.ids));
    let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (ids, mask) = tokenizer::rows(&texts, text.context_length, text.pad_id, text.pad_left)?;
    let pixels = stripes(image.samples())?;

    let runtime = Runtime::load(&options.runtime)?;
    let path = folder.path.join(whole);
    let mut graph = Graph::open_whole(runtime, &path, folder.model, options.threads, options.interrupted)?;
    if !graph.outputs().iter().any(|output| output.name == LOGITS) {
        return Ok(None);
    }
    let size = (image.width, image.height);
    let outputs = ["text_embeds", "image_embeds", LOGITS];
    let found = graph.run_whole((texts.len(), &ids, &mask), (&pixels, size), &outputs, options.interrupted)?;
    let [texts, images, logits] = found.as_slice() else { return Ok(None) };
    let Some(image) = images.iter().next() else { return Ok(None) };
    let points: Vec<_> = texts
        .iter()
        .zip(logits.iter())
        .map(|(text, logit)| (cosine(text, image), logit.first().copied().map_or(f64::NAN, f64::from)))
        .collect();
    let (scale, bias) = match Loss::of_family(&config.family) {
        Loss::Sigmoid => fit_line(&points),
        Loss::Softmax => (fit_factor(&points), None),
    };
    Ok(Some((scale, bias)).filter(|(scale, _)| scale.is_finite()))
}

/// Returns the factor of `y = factor * x` by least squares.
fn fit_factor(points: &[(f64, f64)]) -> f64 {
    let sum = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    sum(|(x, y)| x * y) / sum(|(x, _)| x * x)
}

/// Returns the factor and the summand of `y = factor * x + summand` by least squares.
fn fit_line(points: &[(f64, f64)]) -> (f64, Option<f64>) {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let centred: Vec<_> = points.iter().map(|(x, y)| (x - mean_x, y - mean_y)).collect();
    let factor = fit_factor(&centred);
    (factor, Some(mean_y - factor * mean_x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found() {
        let points = [(0.1, 2.0), (0.2, 3.0), (-0.1, 0.0)];
        let (factor, summand) = fit_line(&points);
        assert!((factor - 10.0).abs() < 1e-9 && (summand.unwrap() - 1.0).abs() < 1e-9);
        assert!((fit_factor(&[(0.5, 10.0), (0.25, 5.0)]) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn scalars_are_read_from_safetensors() {
        let folder = std::env::temp_dir().join(format!("pg_clip-logits-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let header = br#"{"logit_bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
            "logit_scale":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        file.extend_from_slice(&4.0f32.to_le_bytes());
        file.extend_from_slice(&(-12.5f32).to_le_bytes());
        std::fs::write(folder.join(WEIGHTS), &file).unwrap();
        let found = from_safetensors(Folder { path: &folder, model: "test" });
        std::fs::write(folder.join(WEIGHTS), [0xff; 20]).unwrap();
        let refused = from_safetensors(Folder { path: &folder, model: "test" });
        std::fs::remove_dir_all(&folder).unwrap();
        let (scale, bias) = found.unwrap().unwrap();
        assert!((scale - 4.0f64.exp()).abs() < 1e-9 && bias == Some(-12.5));
        assert!(matches!(refused, Err(Error::ModelFile { .. })));
    }
}
