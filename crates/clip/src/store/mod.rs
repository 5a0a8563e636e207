//! The folder that holds all models: what is in it, and how models come into it and out of it, whole or not at all.
//!
//! Invariants: what is examined is what is published, byte for byte; a folder appears and disappears by one rename;
//! whatever a killed process leaves has a name that is no model's, and the next one that adds or removes sweeps it up.

pub(crate) mod manifest;
pub(crate) mod prepared;
pub(crate) mod staging;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::admin::logit_scale;
use crate::admin::probe::{Choices, examine, try_tower};
use crate::error::{Error, Tower};
use crate::folder::{Folder, files_of};
use crate::import::config::Configuration;
use crate::import::layout::Layout;
use crate::model::Options;
use crate::onnx::Onnx;
use crate::onnx::quantize;
use crate::runtime::Runtime;
use crate::store::manifest::{MANIFEST_FILE, Manifest, digest_file};
use crate::store::prepared::{self, PREPARED, RECORD, is_prepared};
use crate::store::staging::{Copy, MAX_FILE_BYTES, UNFINISHED, Work, make_folder, store_error, sweep};
use crate::threads::Interrupted;
use crate::tokenizer;

pub use crate::store::staging::Progress;

/// Longest name of a folder that is also comfortable in a message.
const MAX_NAME: usize = 100;

/// Something about a stored model that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub problem: String,
}

/// Refuse what cannot be the name of a model.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with(['.', '-']) || !name.bytes().all(plain) {
        return Err(Error::InvalidModelName { name: name.chars().take(MAX_NAME).collect() });
    }
    Ok(())
}

/// Refuse what cannot be the name of a new model.
pub fn check_free(model_path: &Path, name: &str) -> Result<(), Error> {
    check_name(name)?;
    match model_path.join(name).symlink_metadata() {
        Ok(_) => Err(Error::ModelExists { name: name.into() }),
        Err(_) => Ok(()),
    }
}

/// The folder of the model `name`. Only a plain name of a folder is accepted.
pub fn folder_of(model_path: &Path, name: &str) -> Result<PathBuf, Error> {
    check_name(name)?;
    let folder = model_path.join(name);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Error::ModelMissing { name: name.into(), present: names(model_path) }),
    }
}

/// The models under `model_path`, in the order of their names.
pub fn names(model_path: &Path) -> Vec<String> {
    let entries = fs::read_dir(model_path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().join(MANIFEST_FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| check_name(name).is_ok())
        .collect();
    names.sort();
    names
}

/// What the manifest of a stored model says. Files are not looked at.
pub fn manifest(model_path: &Path, name: &str) -> Result<Manifest, Error> {
    Manifest::read(Folder { path: &folder_of(model_path, name)?, model: name })
}

/// Copy the model in `source` under `model_path`, examine it by running it, and publish it as `name`.
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
    let (_, tokenizer_files) = tokenizer::describe(from, &published)?;
    let mut layout = Layout::find_in(from, choices)?;

    let work = StagingDir::begin(model_path, name)?;
    let into = Folder { path: &work.path, model: name };
    let mut copy = Copy { from, into: &work, interrupted: options.interrupted, progress };
    for file in published.files.iter().chain(&tokenizer_files) {
        copy.file(file, MAX_FILE_BYTES)?;
    }
    // Of the copy: what is published might change meanwhile.
    let config = Configuration::read(into)?;
    let mut choices = choices.clone();
    choices.learn(logit_scale::from_safetensors(from)?);
    if layout.is_whole() {
        let whole = layout.text.clone();
        layout = copy.towers(&whole)?;
        if choices.logit_scale.is_none() {
            choices.learn(logit_scale::measure(into, &whole, &config, options)?);
        }
        work.discard(&whole)?;
    } else {
        copy.graph(&layout.text)?;
        copy.graph(&layout.image)?;
    }
    let manifest = examine(into, config, &layout, &choices, options)?;
    let json = manifest.to_json().map_err(|error| work.failed(error))?;
    work.write(MANIFEST_FILE, json.as_bytes())?;
    work.publish(&model_path.join(name))?;
    Ok(manifest)
}

/// Take a model away. Backends that have it open keep what they have.
pub fn remove(model_path: &Path, name: &str) -> Result<(), Error> {
    let folder = folder_of(model_path, name)?;
    let failed = |error: io::Error| store_error(&folder, &error);
    let _turn = sweep(model_path)?;
    let unfinished = model_path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
    fs::rename(&folder, &unfinished).map_err(failed)?;
    fs::remove_dir_all(&unfinished).map_err(failed)?;
    File::open(model_path).and_then(|models| models.sync_all()).map_err(failed)
}

/// Save a stored model's graphs so that all processes share their weights, for this processor and this ONNX Runtime.
///
/// What was prepared for others is removed. Says whether anything had to be done.
pub fn prepare(model_path: &Path, name: &str, options: &Options) -> Result<bool, Error> {
    let path = folder_of(model_path, name)?;
    let folder = Folder { path: &path, model: name };
    let manifest = Manifest::read(folder)?;
    let runtime = Runtime::load(&options.runtime)?;
    if prepared::check(folder, &manifest, runtime).is_ok() {
        return Ok(false);
    }
    let work = StagingDir::begin(model_path, name)?;
    let target = Folder { path: &work.path, model: name };
    for tower in Tower::BOTH {
        for file in prepared::save(folder, &manifest, tower, target.path, options)? {
            let file = File::open(work.path.join(file)).map_err(|error| work.failed(error))?;
            work.finish(&file)?;
        }
    }
    work.write(RECORD, prepared::seal(folder, target, &manifest, runtime, options.interrupted)?.as_bytes())?;
    prepared::try_out(folder, target, &manifest, options)?;

    let all = path.join(PREPARED);
    match fs::remove_dir_all(&all) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(work.failed(error)),
        _ => {}
    }
    make_folder(&all).map_err(|error| work.failed(error))?;
    match work.publish(&path.join(prepared::folder_for(&manifest, runtime))) {
        // Another process was quicker.
        Err(Error::ModelExists { .. }) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Make a new model of a stored one, with 8-bit weights in these towers, and publish it as `new_name`.
///
/// The recipe is that of the stored model, which is not touched. A text or picture is run alone: in company it would get
/// another embedding.
pub fn quantize(
    model_path: &Path,
    name: &str,
    new_name: &str,
    towers: &[Tower],
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
    let work = StagingDir::begin(model_path, new_name)?;
    let into = Folder { path: &work.path, model: new_name };
    let mut manifest =
        Manifest { name: new_name.into(), quantized_from: Some(stored.digest.clone()), ..stored.clone() };
    let mut copy = Copy { from, into: &work, interrupted: options.interrupted, progress };
    let is_graph = |file: &String| stored.graph_files().any(|graph| graph == file);
    for file in stored.files.keys().filter(|file| !is_graph(file)) {
        copy.file(file, MAX_FILE_BYTES)?;
    }
    for tower in Tower::BOTH {
        let spec = manifest.graph_mut(tower);
        if towers.contains(&tower) {
            let graph = quantize::quantize(&Onnx::read(from, &spec.file)?, from, &spec.file);
            work.write(&spec.file, &graph.map_err(|reason| Error::invalid(name, &spec.file, reason))?)?;
            (spec.data, spec.alone) = (Vec::new(), true);
        } else {
            copy.graph(&spec.file)?;
        }
    }
    let digest = |file: String| Ok((file.clone(), digest_file(into, &file, options.interrupted)?));
    let files = files_of(&work.path).map_err(|error| work.failed(error))?;
    manifest.files = files.into_iter().map(digest).collect::<Result<_, Error>>()?;
    let manifest = manifest.seal()?;
    for tower in Tower::BOTH {
        try_tower(into, &manifest, tower, options)?;
    }
    work.write(MANIFEST_FILE, manifest.to_json().map_err(|error| work.failed(error))?.as_bytes())?;
    work.publish(&model_path.join(new_name))?;
    Ok(manifest)
}

/// Whether processes share the weights of a stored model, with the ONNX Runtime at `runtime`; if not, why.
pub fn check_prepared(model_path: &Path, name: &str, runtime: &Path) -> Result<(), Error> {
    let path = folder_of(model_path, name)?;
    let folder = Folder { path: &path, model: name };
    prepared::check(folder, &Manifest::read(folder)?, Runtime::load(runtime)?)
}

/// Everything about a stored model that is not as it was when it was added.
pub fn verify(model_path: &Path, name: &str, interrupted: Interrupted) -> Result<Vec<Finding>, Error> {
    let path = folder_of(model_path, name)?;
    let folder = Folder { path: &path, model: name };
    let finding = |file: &str, problem: &str| Finding { file: file.into(), problem: problem.into() };
    let manifest = match Manifest::read(folder) {
        Ok(manifest) => manifest,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => return Ok(vec![finding(MANIFEST_FILE, &error.to_string())]),
    };
    let mut findings = Vec::new();
    for file in manifest.files.keys() {
        match manifest.verify(folder, file, interrupted) {
            Ok(()) => {}
            Err(Error::ModelChanged { .. }) => findings.push(finding(file, "it is not the file that was added")),
            Err(Error::ModelUnsafe { reason, .. }) => findings.push(finding(file, reason)),
            Err(Error::ModelFile { reason, .. }) => findings.push(finding(file, &reason)),
            Err(other) => return Err(other),
        }
    }
    let files = files_of(&path).map_err(|error| store_error(&path, &error))?;
    let is_known = |file: &String| manifest.files.contains_key(file) || file == MANIFEST_FILE || is_prepared(file);
    let unexpected = files.iter().filter(|file| !is_known(file));
    findings.extend(unexpected.map(|file| finding(file, "it does not belong to the model")));
    let prepared = prepared::verify(folder, &manifest, interrupted)?;
    findings.extend(prepared.iter().map(|(file, problem)| finding(file, problem)));
    Ok(findings)
}
