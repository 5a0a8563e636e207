//! CLIP: texts and images become unit vectors in one space.
//!
//! A [`Model`] is a folder as Hugging Face repositories lay it out, with a [`Manifest`] next to its files. Everything
//! that decides an embedding (sizes, crop, interpolation, mean, context length, names and types of the graph's inputs
//! and outputs) is read from that folder.
//!
//! Invariants: nothing in this crate depends on Postgres; nothing here prints, logs, reads a setting or an environment
//! variable; no user input panics; every failure is an [`Error`].

#![forbid(unsafe_code)]

pub mod admin;
mod agreement;
mod embedding;
mod error;
mod folder;
#[cfg(fuzzing)]
pub mod fuzz;
mod import;
mod memory;
mod model;
mod onnx;
mod options;
mod panics;
mod pixels;
mod provider;
mod recipe;
mod rotation;
mod runtime;
mod samples;
pub mod store;
mod threads;
mod tokenizer;
mod tower;
mod zero_shot;

pub use embedding::Embedding;
pub use error::{Error, Tower, of_one};
pub use import::choices::{Choices, TowerChoices};
pub use import::layout::{wanted, weights_of};
pub use memory::{headroom, reserve};
pub use model::stages::TextReader;
pub use model::{Model, TextEmbedding, Usage};
pub use options::{MAX_CACHED_TEXT, MAX_IMAGE_BATCH, MAX_TEXT_BATCH, Options, Overflow, TEXT_WINDOW};
pub use pixels::{Format, ImageInfo, Limits, image_info, image_memory, image_tensor};
pub use provider::Provider;
pub use recipe::{Filter, GraphSpec, ImageSpec, Pooling, Precision, Resize, TextSpec};
pub use rotation::rotate;
pub use runtime::canceler::Canceler;
pub use runtime::cpu::{cpu_features, has_bf16};
pub use runtime::library::{Runtime, TELEMETRY_OFF};
pub use runtime::provider::check_provider;
pub use samples::SAMPLE_TEXTS;
pub use store::manifest::{FileDigest, MANIFEST_FILE, Manifest, Source, digest};
pub use threads::Interrupted;
pub use tokenizer::{Encoded as EncodedText, MAX_TEXT_BYTES};
pub use zero_shot::{Classifier, Head, MAX_LOGIT_SCALE, MAX_TEMPLATES, cosines};
