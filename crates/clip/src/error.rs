//! The errors of this crate, as one closed enum. The extension maps each variant to an SQLSTATE.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize};

use crate::provider::Provider;

/// One of the two encoders of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tower {
    Text,
    Image,
}

impl Tower {
    pub const BOTH: [Self; 2] = [Self::Text, Self::Image];

    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
        }
    }
}

/// A name that this crate uses in errors.
pub type Name = &'static str;

/// An error. It never contains the user's text or bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The image has no bytes.
    EmptyImage,
    /// The first bytes are those of no known format.
    UnknownFormat,
    /// An image of a format without a decoder.
    UnsupportedFormat {
        #[serde(deserialize_with = "interned")]
        format: Name,
    },
    /// A format that has a decoder and is not among the allowed ones.
    FormatNotAllowed {
        #[serde(deserialize_with = "interned")]
        format: Name,
    },
    /// The decoder failed.
    UndecodableImage {
        #[serde(deserialize_with = "interned")]
        format: Name,
        reason: String,
    },
    /// More bytes than the limit, before decoding.
    ImageBytesExceeded { bytes: u64, limit: u64 },
    /// More pixels than the limit, known from the header.
    ImagePixelsExceeded { width: u32, height: u32, limit: u64 },
    /// More tokens than the model reads, and truncation was not requested.
    TooManyTokens { tokens: usize, limit: usize },
    /// More bytes of text than the tokenizer accepts.
    TextBytesExceeded { bytes: u64, limit: u64 },
    /// A name that no model can have.
    InvalidModelName { name: String },
    /// No model of that name. `present` lists the models that exist.
    ModelMissing { name: String, present: Vec<String> },
    /// A file of the model's folder cannot be read.
    ModelFile { model: String, file: String, reason: String },
    /// A file of the model's folder has content that cannot be used.
    ModelInvalid { model: String, file: String, reason: String },
    /// A file of the model's folder differs from the one that the manifest describes.
    ModelChanged { model: String, file: String },
    /// A file of the model's folder can be changed by users other than root and the server's.
    ModelUnsafe {
        model: String,
        file: String,
        #[serde(deserialize_with = "interned")]
        reason: Name,
    },
    /// The prepared files of a model are missing or not trusted. The model itself can be used.
    NotPrepared { model: String, reason: String },
    /// A model of that name exists.
    ModelExists { name: String },
    /// The model directory cannot be written.
    Store { path: String, reason: String },
    /// ONNX Runtime cannot be loaded from this path.
    RuntimeMissing { path: String, reason: String },
    /// ONNX Runtime was loaded from another path. A process can load it only once.
    RuntimeLoaded { loaded: String, wanted: String },
    /// An execution provider cannot be used, or not for a model.
    Provider { provider: Provider, reason: String },
    /// ONNX Runtime failed.
    Inference { model: String, tower: Tower, reason: String },
    /// The model returned NaN, an infinity or a vector of length zero.
    NotAnEmbedding { model: String, tower: Tower },
    /// The model's files have no logit scale, or no logit bias, so cosines cannot become probabilities.
    NoHead {
        model: String,
        #[serde(deserialize_with = "interned")]
        lacking: Name,
    },
    /// A template without a place for the label. `index` counts from zero.
    TemplateWithoutPlace { index: usize },
    /// Vectors of different dimensions.
    Dimensions { one: usize, other: usize },
    /// The zero vector, or a sum of vectors that cancel out.
    NoDirection,
    /// An allocation failed, of that many bytes if the number is known.
    OutOfMemory { bytes: Option<u64> },
    /// The caller asked to stop.
    Interrupted,
    /// The caller asked to stop while a model was loaded.
    LoadInterrupted { model: String },
    /// An element of a batch failed. `index` counts from zero.
    Item { index: usize, source: Box<Error> },
}

/// Reads a name. Each is kept for the life of the process, and there are fewer than this.
const MAX_NAMES: usize = 1000;

fn interned<'de, D: Deserializer<'de>>(input: D) -> Result<Name, D::Error> {
    static NAMES: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());
    let name = String::deserialize(input)?;
    let mut names = NAMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(known) = names.get(name.as_str()) {
        return Ok(known);
    }
    if names.len() >= MAX_NAMES {
        return Ok("unknown");
    }
    let name: Name = name.leak();
    names.insert(name);
    Ok(name)
}

impl Error {
    pub(crate) fn invalid(model: &str, file: &str, reason: impl fmt::Display) -> Self {
        Self::ModelInvalid { model: model.into(), file: file.into(), reason: reason.to_string() }
    }

    /// Returns true if the caller asked to stop.
    pub fn is_interrupt(&self) -> bool {
        matches!(self, Self::Interrupted | Self::LoadInterrupted { .. })
    }

    /// Adds the element of the batch that failed. An interrupt belongs to no element.
    pub(crate) fn at(self, index: usize) -> Self {
        if self.is_interrupt() { self } else { Self::Item { index, source: Box::new(self) } }
    }
}

/// Returns the error of a batch of one, without the number of the element.
pub fn of_one(error: Error) -> Error {
    match error {
        Error::Item { source, .. } => *source,
        other => other,
    }
}

/// An error can come from another process, so that its numbers can have any value.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyImage => f.write_str("the image is empty"),
            Self::UnknownFormat => f.write_str("the data is not an image of a known format"),
            Self::UnsupportedFormat { format } => write!(f, "{format} files are not supported"),
            Self::FormatNotAllowed { format } => write!(f, "{format} images are not allowed"),
            Self::UndecodableImage { format, reason } => write!(f, "could not decode the {format} image: {reason}"),
            Self::ImageBytesExceeded { bytes, limit } => write!(f, "the image has {bytes} bytes; the limit is {limit}"),
            Self::ImagePixelsExceeded { width, height, limit } => {
                write!(f, "the image has {width} x {height} pixels; the limit is {limit} pixels")
            }
            Self::TooManyTokens { tokens, limit } => write!(f, "the text has {tokens} tokens; the model reads {limit}"),
            Self::TextBytesExceeded { bytes, limit } => write!(f, "the text has {bytes} bytes; the limit is {limit}"),
            Self::InvalidModelName { name } => write!(f, "invalid model name: \"{name}\""),
            Self::ModelMissing { name, .. } => write!(f, "model \"{name}\" does not exist"),
            Self::ModelFile { model, file, reason } => {
                write!(f, "could not read \"{file}\" of model \"{model}\": {reason}")
            }
            Self::ModelInvalid { model, file, reason } => {
                write!(f, "invalid \"{file}\" of model \"{model}\": {reason}")
            }
            Self::ModelChanged { model, file } => {
                write!(f, "\"{file}\" of model \"{model}\" is not the file that the model was added with")
            }
            Self::ModelUnsafe { model, file, reason } => {
                write!(f, "\"{file}\" of model \"{model}\" cannot be trusted: {reason}")
            }
            Self::NotPrepared { model, reason } => {
                write!(f, "the weights of model \"{model}\" cannot be shared: {reason}")
            }
            Self::ModelExists { name } => write!(f, "model \"{name}\" exists already"),
            Self::Store { path, reason } => write!(f, "could not write \"{path}\": {reason}"),
            Self::RuntimeMissing { reason, .. } => write!(f, "could not load ONNX Runtime: {reason}"),
            Self::RuntimeLoaded { .. } => f.write_str("ONNX Runtime is already loaded from another file"),
            Self::Provider { provider, reason } => {
                write!(f, "the execution provider \"{provider}\" cannot be used: {reason}")
            }
            Self::Inference { model, tower, reason } => {
                write!(f, "the {} tower of model \"{model}\" failed: {reason}", tower.name())
            }
            Self::NotAnEmbedding { model, tower } => {
                write!(f, "the {} tower of model \"{model}\" gave no direction", tower.name())
            }
            Self::NoHead { model, lacking } => write!(f, "model \"{model}\" has no {lacking}"),
            Self::TemplateWithoutPlace { index } => write!(f, "template {} has no {{}}", index.saturating_add(1)),
            Self::Dimensions { one, other } => write!(f, "different vector dimensions {one} and {other}"),
            Self::NoDirection => f.write_str("the vector has no direction"),
            Self::OutOfMemory { bytes: Some(bytes) } => write!(f, "could not allocate {bytes} bytes"),
            Self::OutOfMemory { bytes: None } => write!(f, "could not allocate memory"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::LoadInterrupted { model } => write!(f, "interrupted while model \"{model}\" was loaded"),
            Self::Item { index, source } => write!(f, "element {}: {source}", index.saturating_add(1)),
        }
    }
}

impl std::error::Error for Error {}
