//! The preprocessing of images, in transformers' form and in open_clip's.

use serde::Deserialize;

use crate::error::Error;
use crate::folder::Folder;
use crate::import::files::{OPEN_CLIP, OPEN_CLIP_PREPROCESSOR, PREPROCESSOR, PROCESSOR, find};
use crate::recipe::{Filter, GraphSpec, ImageSpec, Resize};

/// Mean and standard deviation of OpenAI's training images.
const OPENAI_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const OPENAI_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const HALF: [f64; 3] = [0.5; 3];

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

/// transformers' form. Missing values are the defaults of the class that it names.
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
pub(super) enum Size {
    Edge(u32),
    Pair([u32; 2]),
    Sides { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Size {
    /// Returns width and height, for the size of a result.
    fn sides(self) -> (u32, u32) {
        match self {
            Self::Edge(edge) | Self::Shortest { shortest_edge: edge } => (edge, edge),
            Self::Pair([height, width]) | Self::Sides { height, width } => (width, height),
        }
    }

    /// Returns the resize, for the size of an input.
    fn resize(self) -> Resize {
        match self {
            Self::Edge(edge) | Self::Shortest { shortest_edge: edge } => Resize::ShortestEdge(edge),
            Self::Pair([height, width]) | Self::Sides { height, width } => Resize::Exact { width, height },
        }
    }
}

/// The values that a class of transformers uses where its file has none.
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

/// Reads everything about images except the graph, and adds the file that it read to `files`.
pub(super) fn read_image(
    folder: Folder<'_>,
    image_size: Option<Size>,
    files: &mut Vec<String>,
) -> Result<ImageSpec, Error> {
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
}
