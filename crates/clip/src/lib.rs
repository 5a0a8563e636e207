//! CLIP: texts and pictures become unit vectors in one space.
//!
//! A [`Model`] is a folder as Hugging Face repositories lay it out, with a [`Manifest`] beside it. Everything that
//! decides an embedding (sizes, crop, interpolation, mean, context length, names and types of the graph's inputs and
//! outputs) is read from that folder.
//!
//! Invariants: nothing below this crate knows that Postgres exists; nothing here prints, logs, reads a setting or an
//! environment variable; no user input panics; every failure is an [`Error`].

#![forbid(unsafe_code)]

mod config;
mod cpu;
mod embedding;
mod error;
mod examine;
mod folder;
mod foreign;
#[cfg(fuzzing)]
pub mod fuzz;
mod layout;
mod library;
mod logits;
mod manifest;
mod memory;
mod model;
mod onnx;
mod pixels;
mod prepared;
mod quantize;
mod runtime;
mod spec;
pub mod store;
mod tokens;
mod watch;
mod work;
mod zero_shot;

pub use cpu::cpu_features;
pub use embedding::Embedding;
pub use error::{Error, Tower, of_one};
pub use examine::{Choices, TowerChoices};
pub use layout::{wanted, weights_of};
pub use manifest::{FileDigest, MANIFEST_FILE, Manifest, Source, digest};
pub use memory::{headroom, reserve};
pub use model::{Model, Options, Overflow, TextEmbedding, Usage};
pub use pixels::{Filter, Format, ImageInfo, Limits, image_info, image_tensor};
pub use runtime::{Runtime, TELEMETRY_OFF};
pub use spec::{GraphSpec, ImageSpec, Pooling, Resize, TextSpec};
pub use tokens::MAX_TEXT_BYTES;
pub use watch::Interrupted;
pub use zero_shot::{Classifier, Head, MAX_LOGIT_SCALE, MAX_TEMPLATES, cosines};
