//! Adding a model: its files are copied, examined by running them, and published.

use std::path::Path;

use crate::admin::copy::{Copy, MAX_FILE_BYTES, Progress};
use crate::admin::logit_scale;
use crate::admin::probe::examine;
use crate::error::Error;
use crate::folder::Folder;
use crate::import::choices::Choices;
use crate::import::config::Configuration;
use crate::import::layout::Layout;
use crate::import::tokenizer::describe;
use crate::options::Options;
use crate::store::check_free;
use crate::store::manifest::{MANIFEST_FILE, Manifest};
use crate::store::staging::StagingDir;

/// Copies the model in `source` under `model_path`, examines it by running it, and publishes it as `name`.
///
/// The configuration and the tokenizer are read from the source, to find the files to copy, and again from the copy,
/// because the source may change meanwhile.
pub fn add(
    source: &Path,
    model_path: &Path,
    name: &str,
    choices: &Choices,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    check_free(model_path, name)?;
    let from = Folder { path: source, model: name };
    let published = Configuration::read(from)?;
    let (_, tokenizer_files) = describe(from, &published)?;
    let mut layout = Layout::find_in(from, choices)?;

    let staging = StagingDir::begin(model_path, name)?;
    let into = Folder { path: &staging.path, model: name };
    let mut copy = Copy { from, into: &staging, interrupted: options.interrupted, progress };
    for file in published.files.iter().chain(&tokenizer_files) {
        copy.file(file, MAX_FILE_BYTES)?;
    }
    let config = Configuration::read(into)?;
    let mut choices = choices.clone();
    choices.learn(logit_scale::from_safetensors(from)?);
    if layout.is_whole() {
        let whole = layout.text.clone();
        layout = copy.towers(&whole)?;
        if choices.logit_scale.is_none() {
            choices.learn(logit_scale::measure(into, &whole, &config, options)?);
        }
        staging.discard(&whole)?;
    } else {
        copy.graph(&layout.text)?;
        copy.graph(&layout.image)?;
    }
    let manifest = examine(into, config, &layout, &choices, options)?;
    let json = manifest.to_json().map_err(|error| staging.failed(error))?;
    staging.write(MANIFEST_FILE, json.as_bytes())?;
    staging.publish(&model_path.join(name))?;
    Ok(manifest)
}
