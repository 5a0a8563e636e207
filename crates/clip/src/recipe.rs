//! The recipe by which a model makes embeddings: plain values that its manifest pins and its digest covers.
//! The values are read once, from the publisher's files. Later versions of this crate use the pinned values, even if
//! they would read those files differently.

use serde::{Deserialize, Serialize};

/// Longest side. No CLIP has one, and a broken file cannot ask for gigabytes.
const MAX_IMAGE_SIDE: u32 = 4096;

/// Longest context. No CLIP reads this many tokens.
pub(crate) const MAX_CONTEXT_LENGTH: usize = 100_000;

/// A graph file and the output that holds embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    pub file: String,
    /// Files that hold its weights, if they are not in the graph file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Name of the output.
    pub output: String,
    /// The pooling of an output with a row per token or patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// True if each text or image needs a batch of its own, because batching would change its embedding (dynamic int8).
    #[serde(default, skip_serializing_if = "is_false")]
    pub alone: bool,
    /// The precision in which a provider may compute the graph.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
}

/// The precision of a graph's products. It belongs to the model, because it changes its embeddings a little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// That of the published graph, which is usually fp32.
    #[default]
    Single,
    /// The weights are bf16 numbers. A provider with bf16 units also rounds the other factors to bf16.
    Bf16,
}

impl Precision {
    fn is_single(&self) -> bool {
        *self == Self::Single
    }
}

/// The way in which a row per token becomes one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The first token's row.
    Cls,
    /// The mean of the rows that are not padding.
    Mean,
    /// The last row that is not padding.
    Last,
}

/// The preprocessing of texts for the text tower.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    pub graph: GraphSpec,
    /// Path of `tokenizer.json`.
    pub tokenizer: String,
    /// Tokens that the tower reads, begin and end included.
    pub context_length: usize,
    /// The token that pads a text.
    pub pad_id: u32,
    /// True if the padding stands in front.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pad_left: bool,
    /// True if the text is made lower-case before the tokenizer reads it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lowercase: bool,
    /// True if a short text may be run at its own length. Both ways are run to find out.
    pub natural_length: bool,
}

/// The preprocessing of images for the image tower.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    pub graph: GraphSpec,
    /// Width of the tensor, in pixels.
    pub width: u32,
    /// Height of the tensor, in pixels.
    pub height: u32,
    /// The resize in front of the crop. None if the image keeps its size.
    pub resize: Option<Resize>,
    pub resample: Filter,
    /// True if images are rotated according to their EXIF orientation.
    pub exif_orientation: bool,
    pub rescale_factor: f64,
    pub mean: [f64; 3],
    pub std: [f64; 3],
}

/// An interpolation of Pillow, numbered as `resample` in `preprocessor_config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// Returns the interpolation of that number.
    pub(crate) fn from_pillow(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Scales so that the shorter side has this many pixels.
    ShortestEdge(u32),
    /// Scales both sides, and may change the aspect ratio.
    Exact { width: u32, height: u32 },
}

/// The loss that a model was trained with. It decides how cosines become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Softmax over all labels.
    Softmax,
    /// A sigmoid for each label, with a learned logit bias.
    Sigmoid,
}

impl Loss {
    /// Returns the loss of a family of models. The manifest pins the family, so this is the only place that decides.
    pub(crate) fn of_family(family: &str) -> Self {
        if family.starts_with("siglip") { Self::Sigmoid } else { Self::Softmax }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl GraphSpec {
    /// Returns the placeholder that is used until the graph is read.
    pub(crate) fn unknown() -> Self {
        Self {
            file: String::new(),
            data: Vec::new(),
            output: String::new(),
            pooling: None,
            alone: false,
            precision: Precision::Single,
        }
    }

    /// Returns all files of the graph.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.file).chain(&self.data)
    }
}

impl TextSpec {
    /// Returns what is wrong with these values, if anything.
    pub(crate) fn defect(&self) -> Option<String> {
        match self.context_length {
            1..=MAX_CONTEXT_LENGTH => None,
            length => Some(format!("a context of {length} tokens cannot be")),
        }
    }
}

impl ImageSpec {
    /// Returns what is wrong with these values, if anything.
    pub(crate) fn defect(&self) -> Option<String> {
        let resized = match self.resize {
            Some(Resize::ShortestEdge(edge)) => [edge, edge],
            Some(Resize::Exact { width, height }) => [width, height],
            None => [self.width, self.height],
        };
        let sides = resized.into_iter().chain([self.width, self.height]);
        if sides.into_iter().any(|side| !(1..=MAX_IMAGE_SIDE).contains(&side)) {
            return Some(format!("sides must have 1 to {MAX_IMAGE_SIDE} pixels"));
        }
        if self.std.contains(&0.0) {
            return Some("the standard deviation has a zero".into());
        }
        None
    }

    /// Returns the number of samples of one image's tensor.
    pub(crate) fn samples(&self) -> usize {
        3 * self.width as usize * self.height as usize
    }

    /// Returns the value of each byte in each channel, with the roundings of the reference: rescaled in f64, then f32
    /// throughout.
    pub(crate) fn levels(&self) -> Levels {
        let mut levels = Box::new([[0.0; 256]; 3]);
        for (channel, levels) in levels.iter_mut().enumerate() {
            for (byte, level) in levels.iter_mut().enumerate() {
                let rescaled = (byte as f64 * self.rescale_factor) as f32;
                *level = (rescaled - self.mean[channel] as f32) / self.std[channel] as f32;
            }
        }
        Levels(levels)
    }
}

/// The value of each byte, rescaled and normalized, for each channel.
#[derive(Clone, Debug)]
pub(crate) struct Levels(pub Box<[[f32; 256]; 3]>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_rescaled_and_normalised() {
        let json = r#"{"graph": {"file": "", "output": ""}, "width": 1, "height": 1, "resize": null,
            "resample": "bicubic", "exif_orientation": true, "rescale_factor": 0.00392156862745098,
            "mean": [0.5, 0.5, 0.0], "std": [0.5, 0.25, 1.0]}"#;
        let Levels(levels) = serde_json::from_str::<ImageSpec>(json).unwrap().levels();
        assert_eq!([levels[0][0], levels[0][255], levels[1][255], levels[2][51]], [-1.0, 1.0, 2.0, 0.2]);
    }
}
