//! Errors made of ONNX Runtime's messages.

use std::path::Path;

use crate::error::{Error, Tower};

/// Returns the error of a run. A graph with both towers fails as the text tower; it runs only when a model is added.
pub(super) fn inference_failed(model: &str, tower: Option<Tower>, reason: &str) -> Error {
    if is_about_memory(reason) {
        return Error::OutOfMemory { bytes: None };
    }
    Error::Inference { model: model.into(), tower: tower.unwrap_or(Tower::Text), reason: one_line(reason) }
}

/// Returns true if memory ran out. ONNX Runtime has no error code for it: its allocator and C++ have these messages.
pub(super) fn is_about_memory(message: &str) -> bool {
    ["bad_alloc", "Failed to allocate memory", "Cannot allocate memory"].iter().any(|said| message.contains(said))
}

/// Returns the first line of a message, which describes the failure. The others name source files.
pub(super) fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end().trim_end_matches('.').to_owned()
}

/// Returns the last part of a path, because whole paths are for superusers only.
pub(super) fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
