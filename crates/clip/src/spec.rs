//! What a model's own configuration files promise: read once, checked once, as plain values.
//!
//! Files: `config.json`, `preprocessor_config.json` (or `processor_config.json`). External crate: `serde_json`.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::pixels::Filter;

/// Configuration files are a few kilobytes; a tokenizer's vocabulary can reach tens of megabytes.
const MAX_JSON_BYTES: u64 = 128 * 1024 * 1024;

/// Mean and standard deviation of OpenAI's training pictures: what `CLIPImageProcessor` uses where its file is silent.
const OPENAI_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const OPENAI_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// A folder and the name by which errors speak of it: paths are for superusers only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folder<'a> {
    pub path: &'a Path,
    pub model: &'a str,
}

impl Folder<'_> {
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        let unreadable = |error: std::io::Error| Error::ModelFile {
            model: self.model.into(),
            file: file.into(),
            reason: error.to_string(),
        };
        let path = self.path.join(file);
        let size = std::fs::metadata(&path).map_err(unreadable)?.len();
        if size > MAX_JSON_BYTES {
            return Err(Error::invalid(self.model, file, format_args!("it has {size} bytes, which is too many")));
        }
        std::fs::read(path).map_err(unreadable)
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.read(file)?).map_err(|error| Error::invalid(self.model, file, error))
    }
}

/// What the configuration says about both towers.
#[derive(Clone, Debug)]
pub(crate) struct ModelSpec {
    /// `model_type`, as transformers names it: `clip`, `siglip`, ….
    pub family: String,
    /// Length of an embedding, where the configuration says it.
    pub dimensions: Option<usize>,
    /// Tokens that the text tower has positions for, begin and end included, where the configuration says it.
    pub context_length: Option<usize>,
    /// Learned factor of the cosine, not its logarithm.
    pub logit_scale: Option<f64>,
    pub pad_id: Option<u32>,
    pub image: ImageSpec,
}

/// How a picture becomes a tensor.
#[derive(Clone, Debug)]
pub(crate) struct ImageSpec {
    pub orient: bool,
    pub resize: Option<Resize>,
    pub filter: Filter,
    /// Width and height of the tensor.
    pub size: (u32, u32),
    /// For each channel, what a byte becomes: rescaled and normalised.
    pub levels: Box<[[f32; 256]; 3]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resize {
    /// Scale so that the shorter side has this many pixels.
    ShortestEdge(u32),
    /// Scale both sides, whatever becomes of the proportions.
    Exact { width: u32, height: u32 },
}

impl ModelSpec {
    pub(crate) fn read(folder: Folder<'_>, orient: bool) -> Result<Self, Error> {
        const CONFIG: &str = "config.json";
        let config: Config = folder.json(CONFIG)?;
        let image_size = config.vision_config.image_size;
        Ok(Self {
            dimensions: config.projection_dim,
            context_length: config.text_config.max_position_embeddings,
            logit_scale: config.logit_scale_init_value.map(f64::exp),
            pad_id: config.text_config.pad_token_id,
            image: read_image_spec(folder, image_size, orient)?,
            family: config
                .model_type
                .ok_or_else(|| Error::invalid(folder.model, CONFIG, "\"model_type\" is missing"))?,
        })
    }
}

#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    projection_dim: Option<usize>,
    logit_scale_init_value: Option<f64>,
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
}

#[derive(Default, Deserialize)]
struct TextConfig {
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
}

#[derive(Default, Deserialize)]
struct VisionConfig {
    image_size: Option<u32>,
}

#[derive(Deserialize)]
struct ProcessorConfig {
    image_processor: PreprocessorConfig,
}

/// Fields that are missing mean what they mean to `CLIPImageProcessor`.
#[derive(Deserialize)]
#[serde(default)]
struct PreprocessorConfig {
    do_resize: bool,
    size: Option<Size>,
    resample: i64,
    do_center_crop: bool,
    crop_size: Option<Size>,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

impl Default for PreprocessorConfig {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: None,
            resample: 3,
            do_center_crop: true,
            crop_size: None,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: OPENAI_MEAN,
            image_std: OPENAI_STD,
        }
    }
}

/// A number or a dictionary: both are in use.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Edge(u32),
    Sides { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

/// Larger sides than any CLIP has; keeps a broken file from asking for gigabytes.
const MAX_IMAGE_SIDE: u32 = 4096;

fn read_image_spec(folder: Folder<'_>, image_size: Option<u32>, orient: bool) -> Result<ImageSpec, Error> {
    const PREPROCESSOR: &str = "preprocessor_config.json";
    const PROCESSOR: &str = "processor_config.json";
    let (file, config) = match folder.has(PREPROCESSOR) || !folder.has(PROCESSOR) {
        true => (PREPROCESSOR, folder.json(PREPROCESSOR)?),
        false => (PROCESSOR, folder.json::<ProcessorConfig>(PROCESSOR)?.image_processor),
    };
    let invalid = |reason: String| Error::invalid(folder.model, file, reason);
    let fallback = image_size.map(Size::Edge);

    let resize = match (config.do_resize, config.size.or(fallback)) {
        (false, _) => None,
        (true, Some(Size::Edge(edge) | Size::Shortest { shortest_edge: edge })) => Some(Resize::ShortestEdge(edge)),
        (true, Some(Size::Sides { height, width })) => Some(Resize::Exact { width, height }),
        (true, None) => return Err(invalid("\"size\" is missing".into())),
    };
    let size = match (config.do_center_crop, config.crop_size.or(fallback), resize) {
        (true, Some(Size::Edge(edge) | Size::Shortest { shortest_edge: edge }), _) => (edge, edge),
        (true, Some(Size::Sides { height, width }), _) => (width, height),
        (_, _, Some(Resize::Exact { width, height })) => (width, height),
        _ => return Err(invalid("the size of the result depends on the picture".into())),
    };
    let sides = match resize {
        Some(Resize::ShortestEdge(edge)) => [size.0, size.1, edge, edge],
        Some(Resize::Exact { width, height }) => [size.0, size.1, width, height],
        None => [size.0, size.1, size.0, size.1],
    };
    if sides.iter().any(|side| !(1..=MAX_IMAGE_SIDE).contains(side)) {
        return Err(invalid(format!("sides must have 1 to {MAX_IMAGE_SIDE} pixels")));
    }
    let filter = Filter::from_pillow(config.resample)
        .ok_or_else(|| invalid(format!("\"resample\": {} is no interpolation", config.resample)))?;
    if config.image_std.contains(&0.0) {
        return Err(invalid("\"image_std\" has a zero".into()));
    }
    Ok(ImageSpec { orient, resize, filter, size, levels: levels(&config) })
}

/// What each byte becomes, with the reference's roundings: rescaled in f64, then f32 throughout.
fn levels(config: &PreprocessorConfig) -> Box<[[f32; 256]; 3]> {
    let mut levels = Box::new([[0.0; 256]; 3]);
    for (channel, levels) in levels.iter_mut().enumerate() {
        for (byte, level) in levels.iter_mut().enumerate() {
            let scale = if config.do_rescale { config.rescale_factor } else { 1.0 };
            *level = (byte as f64 * scale) as f32;
            if config.do_normalize {
                *level = (*level - config.image_mean[channel] as f32) / config.image_std[channel] as f32;
            }
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_dictionaries() {
        let parse = |json: &str| serde_json::from_str::<Size>(json);
        assert!(matches!(parse("224"), Ok(Size::Edge(224))));
        assert!(matches!(parse(r#"{"shortest_edge": 72}"#), Ok(Size::Shortest { shortest_edge: 72 })));
        assert!(matches!(parse(r#"{"height": 3, "width": 4}"#), Ok(Size::Sides { height: 3, width: 4 })));
        assert!(parse(r#"{"max_height": 3}"#).is_err());
    }

    #[test]
    fn levels_are_rescaled_and_normalised() {
        let config: PreprocessorConfig =
            serde_json::from_str(r#"{"image_mean": [0.5, 0.5, 0.0], "image_std": [0.5, 0.25, 1.0]}"#).unwrap();
        let levels = levels(&config);
        assert_eq!([levels[0][0], levels[0][255], levels[1][255], levels[2][51]], [-1.0, 1.0, 2.0, 0.2]);
    }
}
