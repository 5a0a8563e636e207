//! A new model with 8-bit or bf16 weights, made of a stored one.

use std::path::Path;

use crate::admin::copy::{Copy, MAX_FILE_BYTES, Progress};
use crate::error::{Error, Tower};
use crate::folder::{Folder, files_of};
use crate::onnx;
use crate::onnx::file::Onnx;
use crate::options::Options;
use crate::recipe::Precision;
use crate::samples::try_tower;
use crate::store::manifest::{MANIFEST_FILE, Manifest, digest_file};
use crate::store::staging::StagingDir;
use crate::store::{check_free, folder_of};

/// The form of a new model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Bytes with a scale per column. Each text or image is run in a batch of its own, because other texts or images in
    /// the batch would change its embedding.
    Int8,
    /// bf16 numbers. A provider with bf16 units may compute the model in bf16.
    Bf16,
}

/// Makes a new model of a stored one, with weights of another form in these towers, and publishes it as `new_name`.
///
/// The recipe is that of the stored model, which does not change.
pub fn quantize(
    model_path: &Path,
    name: &str,
    new_name: &str,
    (weights, towers): (Weights, &[Tower]),
    options: &Options,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    check_free(model_path, new_name)?;
    let path = folder_of(model_path, name)?;
    let from = Folder { path: &path, model: name };
    let stored = Manifest::read(from)?;
    for file in stored.files.keys() {
        stored.verify(from, file, options.interrupted)?;
    }
    let staging = StagingDir::begin(model_path, new_name)?;
    let into = Folder { path: &staging.path, model: new_name };
    let mut manifest =
        Manifest { name: new_name.into(), quantized_from: Some(stored.digest.clone()), ..stored.clone() };
    let mut copy = Copy { from, into: &staging, interrupted: options.interrupted, progress };
    let is_graph = |file: &String| stored.graph_files().any(|graph| graph == file);
    for file in stored.files.keys().filter(|file| !is_graph(file)) {
        copy.file(file, MAX_FILE_BYTES)?;
    }
    for tower in Tower::BOTH {
        let spec = manifest.graph_mut(tower);
        if towers.contains(&tower) {
            let onnx = Onnx::read(from, &spec.file)?;
            let graph = match weights {
                Weights::Int8 => onnx::quantize::quantize(&onnx, from, &spec.file),
                Weights::Bf16 => onnx::bf16::round(&onnx, from, &spec.file),
            };
            staging.write(&spec.file, &graph.map_err(|reason| Error::invalid(name, &spec.file, reason))?)?;
            spec.data = Vec::new();
            match weights {
                Weights::Int8 => spec.alone = true,
                Weights::Bf16 => spec.precision = Precision::Bf16,
            }
        } else {
            copy.graph(&spec.file)?;
        }
    }
    let digest = |file: String| Ok((file.clone(), digest_file(into, &file, options.interrupted)?));
    let files = files_of(&staging.path).map_err(|error| staging.failed(error))?;
    manifest.files = files.into_iter().map(digest).collect::<Result<_, Error>>()?;
    let manifest = manifest.seal()?;
    for tower in Tower::BOTH {
        try_tower(into, &manifest, tower, options)?;
    }
    staging.write(MANIFEST_FILE, manifest.to_json().map_err(|error| staging.failed(error))?.as_bytes())?;
    staging.publish(&model_path.join(new_name))?;
    Ok(manifest)
}
