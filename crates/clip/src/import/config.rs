//! What the configuration files of a model say, in the forms in which models are published: transformers', open_clip's
//! (immich's included) and sentence-transformers'. Read once, when a model is added. External crate: `serde_json`.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::folder::Folder;
use crate::recipe::{Filter, GraphSpec, ImageSpec, Pooling, Resize};
use crate::tokenizer;

const CONFIG: &str = "config.json";
const OPEN_CLIP: &str = "open_clip_config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";
const OPEN_CLIP_PREPROCESSOR: &str = "preprocess_cfg.json";
const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";

/// Where a file may be: the folder itself, that of a tower, that of sentence-transformers.
const PLACES: [&str; 4] = ["", "textual/", "visual/", "0_CLIPModel/"];

/// All paths at which the readers of this crate look, except for graphs and weights.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    let names = [
        CONFIG,
        OPEN_CLIP,
        PREPROCESSOR,
        PROCESSOR,
        OPEN_CLIP_PREPROCESSOR,
        MODULES,
        POOLING,
        tokenizer::TOKENIZER,
        tokenizer::TOKENIZER_CONFIG,
    ];
    names.into_iter().flat_map(|name| PLACES.map(|place| format!("{place}{name}")))
}

/// Mean and standard deviation of OpenAI's training pictures.
const OPENAI_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const OPENAI_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const HALF: [f64; 3] = [0.5; 3];

/// What `CLIPTextConfig` and open_clip mean by saying nothing.
const OPEN_CLIP_CONTEXT: usize = 77;

/// Everything that the configuration says about both towers.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// `model_type`, as transformers names it (`clip`, `siglip`, …), or `open_clip`.
    pub family: String,
    /// Length of an embedding, where the configuration says it.
    pub dimensions: Option<usize>,
    /// Tokens that the text tower has positions for, begin and end included.
    pub context_length: Option<usize>,
    pub pad_id: Option<u32>,
    /// Text is made lower-case, and perhaps more, by the code around the tokenizer.
    pub clean: Option<String>,
    /// All of it but the graph.
    pub image: ImageSpec,
    /// How sentence-transformers makes one row of the text tower's output.
    pub pooling: Option<Pooling>,
    /// The files that this was read from.
    pub files: Vec<String>,
}

/// The path of a file by its name, wherever in the folder it is.
pub(crate) fn find(folder: Folder<'_>, name: &str) -> Option<String> {
    PLACES.iter().map(|place| format!("{place}{name}")).find(|path| folder.has(path))
}

impl Configuration {
    pub(crate) fn read(folder: Folder<'_>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let (file, model) = match (find(folder, OPEN_CLIP), find(folder, CONFIG)) {
            // A repository with both has transformers' form in the second.
            (_, Some(file)) => (file.clone(), folder.json::<Model>(&file)?),
            (Some(file), None) => (file.clone(), folder.json::<OpenClipFile>(&file)?.model_cfg),
            (None, None) => return Err(folder.unreadable(CONFIG, std::io::ErrorKind::NotFound.into())),
        };
        let invalid = |reason: &str| Error::invalid(folder.model, &file, reason);
        let image_size = model.vision_config.image_size.or(model.vision_cfg.image_size);
        let image = read_image(folder, image_size, &mut files)?;
        let text = &model.text_config;
        let family = match (&model.model_type, model.embed_dim) {
            (Some(family), _) => family.clone(),
            (None, Some(_)) => "open_clip".into(),
            (None, None) => return Err(invalid("\"model_type\" is missing")),
        };
        let is_open_clip = model.embed_dim.is_some();
        let context_length = match is_open_clip {
            true => Some(model.text_cfg.context_length.unwrap_or(OPEN_CLIP_CONTEXT)),
            false => text.positions(),
        };
        let pooling = read_pooling(folder, &mut files)?;
        files.push(file);
        Ok(Self {
            family,
            dimensions: model.projection_dim.or(model.embed_dim),
            context_length,
            pad_id: text.pad_token_id.or(is_open_clip.then_some(0)),
            clean: model.text_cfg.tokenizer_kwargs.clean,
            image,
            pooling,
            files,
        })
    }
}

/// `config.json`: transformers' fields and open_clip's.
#[derive(Deserialize)]
struct Model {
    model_type: Option<String>,
    projection_dim: Option<usize>,
    embed_dim: Option<usize>,
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
    #[serde(default)]
    text_cfg: OpenClipText,
    #[serde(default)]
    vision_cfg: VisionConfig,
}

#[derive(Default, Deserialize)]
struct TextConfig {
    model_type: Option<String>,
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
}

impl TextConfig {
    /// Tokens that there are positions for. RoBERTa and its kin begin to count after the padding token's id.
    fn positions(&self) -> Option<usize> {
        let kin = ["roberta", "camembert", "altclip"];
        let skipped = match &self.model_type {
            Some(name) if kin.iter().any(|kin| name.contains(kin)) => self.pad_token_id.unwrap_or(1) as usize + 1,
            _ => 0,
        };
        self.max_position_embeddings.map(|positions| positions.saturating_sub(skipped))
    }
}

#[derive(Default, Deserialize)]
struct VisionConfig {
    image_size: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OpenClipText {
    context_length: Option<usize>,
    tokenizer_kwargs: TokenizerArguments,
}

#[derive(Default, Deserialize)]
struct TokenizerArguments {
    clean: Option<String>,
}

#[derive(Deserialize)]
struct OpenClipFile {
    model_cfg: Model,
}

#[derive(Deserialize)]
struct OpenClipPreprocessorFile {
    preprocess_cfg: OpenClipPreprocessor,
}

#[derive(Deserialize)]
struct OpenClipPreprocessor {
    size: Option<Size>,
    mean: [f64; 3],
    std: [f64; 3],
    interpolation: Option<String>,
    resize_mode: Option<String>,
}

#[derive(Deserialize)]
struct ProcessorFile {
    image_processor: Preprocessor,
}

/// transformers' form. What is missing means what it means to the class that is named.
#[derive(Deserialize)]
struct Preprocessor {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<i64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
    do_pad: Option<bool>,
    do_flip_channel_order: Option<bool>,
    crop_pct: Option<f64>,
    patch_size: Option<u32>,
}

/// A number, a pair or a dictionary: all are in use.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Edge(u32),
    Pair([u32; 2]),
    Sides { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Size {
    /// Width and height where it is the size of a result.
    fn sides(self) -> (u32, u32) {
        match self {
            Self::Edge(edge) | Self::Shortest { shortest_edge: edge } => (edge, edge),
            Self::Pair([height, width]) | Self::Sides { height, width } => (width, height),
        }
    }

    fn resize(self) -> Resize {
        match self {
            Self::Edge(edge) | Self::Shortest { shortest_edge: edge } => Resize::ShortestEdge(edge),
            Self::Pair([height, width]) | Self::Sides { height, width } => Resize::Exact { width, height },
        }
    }
}

/// What a class of transformers means where its file is silent.
struct Defaults {
    size: Option<Size>,
    center_crop: bool,
    resample: i64,
    mean: [f64; 3],
    std: [f64; 3],
}

const SQUARE: Size = Size::Sides { height: 224, width: 224 };

fn defaults(class: &str, image_size: Option<Size>) -> Result<Defaults, String> {
    match class {
        "" => {}
        class if class.starts_with("CLIP") || class.starts_with("ChineseCLIP") => {}
        class if class.starts_with("Siglip2") => {
            return Err("pictures of variable resolution (NaFlex) are not supported".into());
        }
        class if class.starts_with("Siglip") => {
            return Ok(Defaults { size: Some(SQUARE), center_crop: false, resample: 3, mean: HALF, std: HALF });
        }
        class if class.starts_with("ViT") || class.starts_with("Deit") => {
            return Ok(Defaults { size: Some(SQUARE), center_crop: false, resample: 2, mean: HALF, std: HALF });
        }
        class => return Err(format!("the image processor {class:?} is not known")),
    }
    Ok(Defaults { size: image_size, center_crop: true, resample: 3, mean: OPENAI_MEAN, std: OPENAI_STD })
}

fn read_image(folder: Folder<'_>, image_size: Option<Size>, files: &mut Vec<String>) -> Result<ImageSpec, Error> {
    let found = |name: &str| find(folder, name).map(|path| (name.to_owned(), path));
    let known = [PREPROCESSOR, PROCESSOR, OPEN_CLIP_PREPROCESSOR, OPEN_CLIP];
    let Some((name, path)) = known.into_iter().find_map(found) else {
        return Err(folder.unreadable(PREPROCESSOR, std::io::ErrorKind::NotFound.into()));
    };
    let image = match name.as_str() {
        PREPROCESSOR => from_transformers(folder.json(&path)?, image_size),
        PROCESSOR => from_transformers(folder.json::<ProcessorFile>(&path)?.image_processor, image_size),
        OPEN_CLIP_PREPROCESSOR => from_open_clip(folder.json(&path)?, image_size),
        _ => from_open_clip(folder.json::<OpenClipPreprocessorFile>(&path)?.preprocess_cfg, image_size),
    };
    let image = image.and_then(|image| image.defect().map_or(Ok(image), Err));
    let image = image.map_err(|reason| Error::invalid(folder.model, &path, reason))?;
    files.push(path);
    Ok(image)
}

fn from_transformers(file: Preprocessor, image_size: Option<Size>) -> Result<ImageSpec, String> {
    let class = file.image_processor_type.or(file.feature_extractor_type).unwrap_or_default();
    let default = defaults(&class, image_size)?;
    for (name, set) in [
        ("do_pad", file.do_pad == Some(true)),
        ("do_flip_channel_order", file.do_flip_channel_order == Some(true)),
        ("crop_pct", file.crop_pct.is_some()),
        ("patch_size", file.patch_size.is_some()),
    ] {
        if set {
            return Err(format!("\"{name}\" is not supported"));
        }
    }
    let size = file.size.or(default.size);
    let resize = match (file.do_resize.unwrap_or(true), size) {
        (false, _) => None,
        (true, Some(size)) => Some(size.resize()),
        (true, None) => return Err("\"size\" is missing".into()),
    };
    let (width, height) = match (file.do_center_crop.unwrap_or(default.center_crop), resize) {
        (true, _) => file.crop_size.or(default.size).ok_or("\"crop_size\" is missing")?.sides(),
        (false, Some(Resize::Exact { width, height })) => (width, height),
        _ => return Err("the size of the result depends on the picture".into()),
    };
    let resample = file.resample.unwrap_or(default.resample);
    let normalize = file.do_normalize.unwrap_or(true);
    Ok(ImageSpec {
        graph: GraphSpec::unknown(),
        width,
        height,
        resize,
        resample: Filter::from_pillow(resample)
            .ok_or_else(|| format!("\"resample\": {resample} is no interpolation"))?,
        exif_orientation: true,
        rescale_factor: match file.do_rescale.unwrap_or(true) {
            true => file.rescale_factor.unwrap_or(1.0 / 255.0),
            false => 1.0,
        },
        mean: if normalize { file.image_mean.unwrap_or(default.mean) } else { [0.0; 3] },
        std: if normalize { file.image_std.unwrap_or(default.std) } else { [1.0; 3] },
    })
}

fn from_open_clip(file: OpenClipPreprocessor, image_size: Option<Size>) -> Result<ImageSpec, String> {
    let (width, height) = file.size.or(image_size).ok_or("\"size\" is missing")?.sides();
    let resize = match file.resize_mode.as_deref().unwrap_or("shortest") {
        "shortest" if width == height => Resize::ShortestEdge(width),
        "squash" => Resize::Exact { width, height },
        mode => return Err(format!("\"resize_mode\": {mode:?} is not supported for {width} x {height} pixels")),
    };
    let resample = match file.interpolation.as_deref().unwrap_or("bicubic") {
        "bicubic" => Filter::Bicubic,
        "bilinear" => Filter::Bilinear,
        other => return Err(format!("\"interpolation\": {other:?} is not supported")),
    };
    Ok(ImageSpec {
        graph: GraphSpec::unknown(),
        width,
        height,
        resize: Some(resize),
        resample,
        exif_orientation: true,
        rescale_factor: 1.0 / 255.0,
        mean: file.mean,
        std: file.std,
    })
}

/// sentence-transformers' pooling. A layer behind it would be missing from the graph.
fn read_pooling(folder: Folder<'_>, files: &mut Vec<String>) -> Result<Option<Pooling>, Error> {
    let Some(path) = find(folder, POOLING) else { return Ok(None) };
    if let Some(modules) = find(folder, MODULES) {
        let listed: Vec<Value> = folder.json(&modules)?;
        let dense = listed.iter().any(|module| module["type"].as_str().is_some_and(|kind| kind.ends_with("Dense")));
        if dense {
            let reason = "a dense layer follows the pooling: export the model with it in the graph";
            return Err(Error::invalid(folder.model, &modules, reason));
        }
        files.push(modules);
    }
    let modes: Value = folder.json(&path)?;
    let is_on = |mode: &str| modes[mode].as_bool() == Some(true);
    let known = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let mut on = known.into_iter().filter(|(mode, _)| is_on(mode)).map(|(_, pooling)| pooling);
    let only = on.next().filter(|_| on.next().is_none());
    let only = only.ok_or_else(|| Error::invalid(folder.model, &path, "one of cls, mean and last token must be on"))?;
    files.push(path);
    Ok(Some(only))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> Result<ImageSpec, String> {
        from_transformers(serde_json::from_str(json).unwrap(), Some(Size::Edge(224)))
    }

    #[test]
    fn sizes_are_numbers_pairs_or_dictionaries() {
        let parse = |json: &str| serde_json::from_str::<Size>(json).map(Size::resize);
        assert_eq!(parse("224").unwrap(), Resize::ShortestEdge(224));
        assert_eq!(parse(r#"{"shortest_edge": 72}"#).unwrap(), Resize::ShortestEdge(72));
        assert_eq!(parse(r#"{"height": 3, "width": 4}"#).unwrap(), Resize::Exact { width: 4, height: 3 });
        assert_eq!(parse("[3, 4]").unwrap(), Resize::Exact { width: 4, height: 3 });
        assert!(parse(r#"{"max_height": 3}"#).is_err());
    }

    #[test]
    fn what_is_missing_means_what_the_class_means() {
        let clip = image("{}").unwrap();
        assert_eq!((clip.resize, clip.mean), (Some(Resize::ShortestEdge(224)), OPENAI_MEAN));
        let siglip = image(r#"{"image_processor_type": "SiglipImageProcessor"}"#).unwrap();
        assert_eq!((siglip.resize, siglip.mean), (Some(Resize::Exact { width: 224, height: 224 }), HALF));
        let vit = image(r#"{"image_processor_type": "ViTImageProcessor"}"#).unwrap();
        assert_eq!((vit.resample, vit.std), (Filter::Bilinear, HALF));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for json in [
            r#"{"image_processor_type": "Siglip2ImageProcessor"}"#,
            r#"{"image_processor_type": "EfficientNetImageProcessor"}"#,
            r#"{"do_pad": true}"#,
            r#"{"do_flip_channel_order": true}"#,
            r#"{"resample": 6}"#,
            r#"{"do_center_crop": false}"#,
        ] {
            assert!(image(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_picture_that_is_not_normalised_keeps_its_levels() {
        let plain = image(r#"{"do_normalize": false}"#).unwrap();
        assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    }

    #[test]
    fn roberta_counts_its_positions_from_behind_the_padding() {
        let positions = |json: &str| serde_json::from_str::<TextConfig>(json).unwrap().positions();
        let roberta = r#"{"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#;
        assert_eq!(positions(roberta), Some(512));
        assert_eq!(positions(r#"{"model_type": "bert", "max_position_embeddings": 512}"#), Some(512));
    }
}
