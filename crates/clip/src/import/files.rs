//! The files that a configuration is read from: their names, and the folders in which publishers put them.

use crate::folder::Folder;

pub(super) const CONFIG: &str = "config.json";
pub(super) const OPEN_CLIP: &str = "open_clip_config.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(super) const PROCESSOR: &str = "processor_config.json";
pub(super) const OPEN_CLIP_PREPROCESSOR: &str = "preprocess_cfg.json";
pub(super) const MODULES: &str = "modules.json";
pub(super) const POOLING: &str = "1_Pooling/config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The folders that may hold a file: the model's own, that of a tower, and that of sentence-transformers.
const PLACES: [&str; 4] = ["", "textual/", "visual/", "0_CLIPModel/"];

/// Returns all paths that the readers of this crate try, except those of graphs and weights.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    let names = [
        CONFIG,
        OPEN_CLIP,
        PREPROCESSOR,
        PROCESSOR,
        OPEN_CLIP_PREPROCESSOR,
        MODULES,
        POOLING,
        TOKENIZER,
        TOKENIZER_CONFIG,
    ];
    names.into_iter().flat_map(|name| PLACES.map(|place| format!("{place}{name}")))
}

/// Returns the path of a file by its name, in the first of the folders that has it.
pub(crate) fn find(folder: Folder<'_>, name: &str) -> Option<String> {
    PLACES.iter().map(|place| format!("{place}{name}")).find(|path| folder.has(path))
}
