//! Preparation of a model: its graphs saved so that all processes share their weights.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{Error, Tower};
use crate::folder::{Folder, files_of};
use crate::options::Options;
use crate::runtime::library::Runtime;
use crate::runtime::session::{Form, Graph};
use crate::samples::{MIN_COSINE, run_probe, try_tower};
use crate::store::folder_of;
use crate::store::manifest::{Manifest, digest_file};
use crate::store::prepared::{self, not_prepared};
use crate::store::record::{FORMAT_VERSION, Key, PREPARED, RECORD, Record, Seal, data_file, graph_file};
use crate::store::staging::{StagingDir, make_folder};
use crate::threads::Interrupted;
use crate::tower;

/// Saves a stored model's graphs so that all processes share their weights, for this processor and this ONNX Runtime.
///
/// The files are saved in the directory that the options name, or in the folder of the model. Files prepared for others
/// are removed. Returns false if nothing had to be done.
pub fn prepare(model_path: &Path, name: &str, options: &Options) -> Result<bool, Error> {
    let path = folder_of(model_path, name)?;
    let folder = Folder { path: &path, model: name };
    let manifest = Manifest::read(folder)?;
    let runtime = Runtime::load(&options.runtime)?;
    let elsewhere = options.prepared.as_deref();
    if prepared::check(folder, &manifest, runtime, elsewhere).is_ok() {
        return Ok(false);
    }
    let staging = StagingDir::begin(elsewhere.unwrap_or(model_path), name)?;
    let target = Folder { path: &staging.path, model: name };
    for tower in Tower::BOTH {
        for file in save(folder, &manifest, tower, target.path, options)? {
            let file = File::open(staging.path.join(file)).map_err(|error| staging.failed(error))?;
            staging.finish(&file)?;
        }
    }
    staging.write(RECORD, seal(folder, target, &manifest, runtime, options.interrupted)?.as_bytes())?;
    try_out(folder, target, &manifest, options)?;

    let holder = prepared::holder(folder, elsewhere);
    if !holder.exists() {
        make_folder(&holder).map_err(|error| staging.failed(error))?;
    }
    let all = holder.join(PREPARED);
    match fs::remove_dir_all(&all) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(staging.failed(error)),
        _ => {}
    }
    make_folder(&all).map_err(|error| staging.failed(error))?;
    match staging.publish(&holder.join(Key::of(&manifest, runtime).folder())) {
        // Another process was quicker.
        Err(Error::ModelExists { .. }) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Saves a tower into `target` and returns the names of its files.
fn save(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    target: &Path,
    options: &Options,
) -> Result<Vec<String>, Error> {
    let spec = manifest.graph(tower);
    for file in spec.files() {
        manifest.verify(folder, file, options.interrupted)?;
    }
    let (graph, data) = (graph_file(tower), data_file(tower));
    let runtime = Runtime::load(&options.runtime)?;
    let saved = (target.join(&graph), data.as_str());
    Graph::prepare(
        runtime,
        &folder.path.join(&spec.file),
        (folder.model, tower),
        (&saved.0, saved.1),
        options.interrupted,
    )?;
    Ok([graph, data].into_iter().filter(|file| target.join(file).exists()).collect())
}

/// Returns the text of `prepared.json` for the files that were saved into `target`.
fn seal(
    folder: Folder<'_>,
    target: Folder<'_>,
    manifest: &Manifest,
    runtime: &Runtime,
    interrupted: Interrupted,
) -> Result<String, Error> {
    let of_published = |file: &String| {
        let digest = manifest
            .files
            .get(file)
            .cloned()
            .ok_or_else(|| not_prepared(folder, format_args!("{file:?} is unknown")))?;
        Ok((file.clone(), Seal::of(folder, file, digest)?))
    };
    let of_saved = |file: String| {
        let digest = digest_file(target, &file, interrupted)?;
        Ok((file.clone(), Seal::of(target, &file, digest)?))
    };
    let saved = files_of(target.path).map_err(|error| target.unreadable(PREPARED, error))?;
    let record = Record {
        format_version: FORMAT_VERSION,
        key: Key::of(manifest, runtime),
        published: manifest.graph_files().map(of_published).collect::<Result<_, Error>>()?,
        files: saved.into_iter().map(of_saved).collect::<Result<_, Error>>()?,
    };
    record.to_json().map_err(|error| target.unreadable(RECORD, error))
}

/// Runs the graphs in `target`, which must return the embeddings of the published graphs.
fn try_out(folder: Folder<'_>, target: Folder<'_>, manifest: &Manifest, options: &Options) -> Result<(), Error> {
    let runtime = Runtime::load(&options.runtime)?;
    let record = Record::read(target, RECORD)?;
    for tower in Tower::BOTH {
        prepared::check_tower(target, "", &record, tower)?;
        let published = try_tower(folder, manifest, tower, options)?;
        let file = target.path.join(graph_file(tower));
        let mut graph = tower::open(manifest, tower, Form::Prepared(&file), runtime, options)?;
        let prepared = run_probe(&mut graph, folder, manifest, tower, options)?;
        if published.cosine(&prepared) <= MIN_COSINE {
            return Err(not_prepared(
                folder,
                format_args!("the prepared {} tower gives other embeddings", tower.name()),
            ));
        }
    }
    Ok(())
}
