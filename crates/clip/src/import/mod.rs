//! The files of a model as publishers lay them out.

pub(crate) mod choices;
pub(crate) mod config;
pub(crate) mod files;
pub(crate) mod layout;
mod preprocessor;
pub(crate) mod tokenizer;
