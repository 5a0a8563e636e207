//! The model directory: the folder that holds all models.
//!
//! Invariants: a model appears and disappears by one rename; the files that a killed process leaves are under a name
//! that no model has, and the next process that adds or removes a model deletes them.

pub(crate) mod manifest;
pub(crate) mod prepared;
pub(crate) mod record;
pub(crate) mod staging;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::{Folder, files_of};
use crate::runtime::library::Runtime;
use crate::threads::Interrupted;
use manifest::{MANIFEST_FILE, Manifest};
use prepared::is_prepared;
use staging::{UNFINISHED, store_error, sweep};

/// Longest name of a model, in bytes. It fits into messages.
const MAX_NAME: usize = 100;

/// A defect of a stored model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub problem: String,
}

/// Rejects a name that no model can have.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with(['.', '-']) || !name.bytes().all(plain) {
        return Err(Error::InvalidModelName { name: name.chars().take(MAX_NAME).collect() });
    }
    Ok(())
}

/// Rejects a name that no new model can have.
pub fn check_free(model_path: &Path, name: &str) -> Result<(), Error> {
    check_name(name)?;
    match model_path.join(name).symlink_metadata() {
        Ok(_) => Err(Error::ModelExists { name: name.into() }),
        Err(_) => Ok(()),
    }
}

/// Returns the folder of the model `name`. Only a plain name of a folder is accepted.
pub fn folder_of(model_path: &Path, name: &str) -> Result<PathBuf, Error> {
    folder_in(std::slice::from_ref(&model_path), name)
}

/// Returns the folder of the model `name` in the first of several model directories that has it.
pub fn folder_in(model_paths: &[impl AsRef<Path>], name: &str) -> Result<PathBuf, Error> {
    check_name(name)?;
    let found = model_paths.iter().map(|path| path.as_ref().join(name)).find(|folder| folder.is_dir());
    found.ok_or_else(|| Error::ModelMissing { name: name.into(), present: names_in(model_paths) })
}

/// Returns the names of the models in several model directories, sorted.
pub fn names_in(model_paths: &[impl AsRef<Path>]) -> Vec<String> {
    let mut names: Vec<_> = model_paths.iter().flat_map(|path| names(path.as_ref())).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the names of the models under `model_path`, sorted.
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

/// Returns the manifest of a stored model. The other files are not read.
pub fn manifest(model_path: &Path, name: &str) -> Result<Manifest, Error> {
    Manifest::read(Folder { path: &folder_of(model_path, name)?, model: name })
}

/// Removes a model and its prepared files. Processes that have it open can still use it.
pub fn remove(model_path: &Path, name: &str, elsewhere: Option<&Path>) -> Result<(), Error> {
    let folder = folder_of(model_path, name)?;
    let failed = |error: io::Error| store_error(&folder, &error);
    let _sweep = sweep(model_path)?;
    let unfinished = model_path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
    fs::rename(&folder, &unfinished).map_err(failed)?;
    fs::remove_dir_all(&unfinished).map_err(failed)?;
    if let Some(prepared) = elsewhere.map(|directory| directory.join(name)).filter(|prepared| prepared.exists()) {
        fs::remove_dir_all(&prepared).map_err(|error| store_error(&prepared, &error))?;
    }
    File::open(model_path).and_then(|models| models.sync_all()).map_err(failed)
}

/// Returns an error that gives the reason, unless processes share the weights of the model in `folder` with the ONNX
/// Runtime at `runtime`. `elsewhere` is the directory of prepared files, if they are not in the folders of the models.
pub fn check_prepared(folder: &Path, name: &str, runtime: &Path, elsewhere: Option<&Path>) -> Result<(), Error> {
    let folder = Folder { path: folder, model: name };
    prepared::check(folder, &Manifest::read(folder)?, Runtime::load(runtime)?, elsewhere)
}

/// Returns the differences between a stored model and the model that was added.
pub fn verify(
    model_path: &Path,
    name: &str,
    elsewhere: Option<&Path>,
    interrupted: Interrupted,
) -> Result<Vec<Finding>, Error> {
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
    let prepared = prepared::verify(folder, &manifest, elsewhere, interrupted)?;
    findings.extend(prepared.iter().map(|(file, problem)| finding(file, problem)));
    Ok(findings)
}
