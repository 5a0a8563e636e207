//! Prepared weights: graphs as ONNX Runtime optimises and packs them, in files that all processes map and so share.
//!
//! Invariants: what is mapped was saved for this model by this ONNX Runtime on such a processor, was tried by the process
//! that saved it, and was not touched since; each piece begins at a multiple of 64 bytes and ends within its file, because
//! any other crashes the process. What is in doubt is refused, and the published graph is used instead. Nothing is
//! changed in place: a file that is mapped and then cut short crashes those who map it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::admin::probe::{SAME, probe, try_tower};
use crate::error::{Error, Tower};
use crate::folder::{Folder, files_of};
use crate::model::Options;
use crate::onnx::{Onnx, Piece};
use crate::recipe::GraphSpec;
use crate::runtime::cpu::cpu_features;
use crate::runtime::{Form, Graph, Runtime};
use crate::store::manifest::{FileDigest, Manifest, digest, digest_file};
use crate::threads::Interrupted;

/// Where they are in a model's folder; in it, a folder per key.
pub(crate) const PREPARED: &str = "prepared";

/// Says what the other files are.
pub(crate) const RECORD: &str = "prepared.json";

/// Raised when a reader of the old format would misunderstand the new one.
const FORMAT_VERSION: u32 = 1;

/// Kernels read whole vectors: the widest have 64 bytes.
const ALIGNMENT: u64 = 64;

/// Digits of a key's digest in the name of its folder: enough to tell the keys of one model apart.
const KEY_DIGITS: usize = 16;

/// What `prepared.json` says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format_version: u32,
    key: Key,
    /// What it was made of: the graphs as they were published.
    published: BTreeMap<String, Seal>,
    files: BTreeMap<String, Seal>,
}

/// What the files were made of and made for: for anything else they are wrong, or crash.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Key {
    /// The model's.
    digest: String,
    /// What ONNX Runtime says of its build.
    runtime: String,
    cpu: String,
}

/// A file as it was left. Its times tell without reading hundreds of megabytes that it was not touched since.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    digest: FileDigest,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of the file or what is said of it. Nobody can set this one back.
    changed: (i64, i64),
}

impl Key {
    fn of(manifest: &Manifest, runtime: &Runtime) -> Self {
        Self { digest: manifest.digest.clone(), runtime: runtime.build_info().into(), cpu: cpu_features() }
    }

    fn folder(&self) -> String {
        let name = digest(format!("{}\n{}\n{}", self.digest, self.runtime, self.cpu).as_bytes());
        format!("{PREPARED}/{}", &name[..KEY_DIGITS])
    }
}

/// A tower's graph.
fn graph_file(tower: Tower) -> String {
    format!("{}.onnx", tower.name())
}

/// A tower's weights. There are none where no tensor is large.
fn data_file(tower: Tower) -> String {
    format!("{}.data", tower.name())
}

/// The folder for what is prepared here and now, within the model's.
pub(crate) fn folder_for(manifest: &Manifest, runtime: &Runtime) -> String {
    Key::of(manifest, runtime).folder()
}

/// Save a tower into `target` and name the files.
pub(crate) fn save(
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

/// The text of `prepared.json` for the files that were saved into `target`.
pub(crate) fn seal(
    folder: Folder<'_>,
    target: Folder<'_>,
    manifest: &Manifest,
    runtime: &Runtime,
    interrupted: Interrupted,
) -> Result<String, Error> {
    let of_published = |file: &String| {
        let digest =
            manifest.files.get(file).cloned().ok_or_else(|| doubt(folder, format_args!("{file:?} is unknown")))?;
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
    let json = serde_json::to_string_pretty(&record);
    json.map(|json| json + "\n").map_err(|error| target.unreadable(RECORD, error.into()))
}

/// Run what was saved into `target`: it must give the embeddings that the published graphs give.
pub(crate) fn try_out(
    folder: Folder<'_>,
    target: Folder<'_>,
    manifest: &Manifest,
    options: &Options,
) -> Result<(), Error> {
    let runtime = Runtime::load(&options.runtime)?;
    let record = read(target, RECORD)?;
    for tower in Tower::BOTH {
        check_tower(target, "", &record, tower)?;
        let published = try_tower(folder, manifest, tower, options)?;
        let file = target.path.join(graph_file(tower));
        let mut graph = manifest.open(tower, Form::Prepared(&file), runtime, options)?;
        let prepared = probe(&mut graph, folder, manifest, tower, options)?;
        if published.cosine(&prepared) <= SAME {
            return Err(doubt(folder, format_args!("the prepared {} tower gives other embeddings", tower.name())));
        }
    }
    Ok(())
}

/// Open a tower from what was prepared, if there is no doubt about it; and how many bytes of weights are shared by that.
pub(crate) fn open(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    runtime: &Runtime,
    options: &Options,
) -> Result<(Graph, u64), Error> {
    let opened = find(folder, manifest, runtime).and_then(|(within, record)| {
        check_published(folder, &record, manifest.graph(tower))?;
        let shared = check_tower(folder, &within, &record, tower)?;
        let file = folder.path.join(&within).join(graph_file(tower));
        let graph = manifest.open(tower, Form::Prepared(&file), runtime, options)?;
        Ok((graph, shared))
    });
    opened.map_err(|error| match error {
        kept @ (Error::NotPrepared { .. } | Error::Interrupted | Error::OutOfMemory { .. }) => kept,
        other => doubt(folder, other),
    })
}

/// Whether both towers could be opened from what was prepared; if not, why.
pub(crate) fn check(folder: Folder<'_>, manifest: &Manifest, runtime: &Runtime) -> Result<(), Error> {
    let (within, record) = find(folder, manifest, runtime)?;
    Tower::BOTH.into_iter().try_for_each(|tower| {
        check_published(folder, &record, manifest.graph(tower))?;
        check_tower(folder, &within, &record, tower).map(drop)
    })
}

/// What is wrong with the prepared files of a model, whatever they were prepared for: file and problem.
pub(crate) fn verify(
    folder: Folder<'_>,
    manifest: &Manifest,
    interrupted: Interrupted,
) -> Result<Vec<(String, String)>, Error> {
    let files = files_of(folder.path).map_err(|error| folder.unreadable(PREPARED, error))?;
    let files: Vec<_> = files.into_iter().filter(|file| is_prepared(file)).collect();
    let records: BTreeMap<&str, _> = files
        .iter()
        .filter_map(|file| file.strip_suffix(RECORD))
        .map(|within| (within, read(folder, &format!("{within}{RECORD}"))))
        .collect();
    let mut findings = Vec::new();
    for file in &files {
        let (within, name) =
            file.rsplit_once('/').map_or(("", file.as_str()), |(_, name)| (&file[..file.len() - name.len()], name));
        let problem = match records.get(within) {
            Some(Ok(record)) if record.key.digest != manifest.digest => {
                Some("it was prepared for another model".into())
            }
            Some(Ok(_)) if name == RECORD => None,
            Some(Ok(record)) => match record.files.get(name) {
                Some(seal) if seal.digest == digest_file(folder, file, interrupted)? => None,
                Some(_) => Some("it is not the file that was prepared".into()),
                None => Some("it does not belong to the model".into()),
            },
            Some(Err(error)) if name == RECORD => Some(error.to_string()),
            Some(Err(_)) => None,
            None => Some("it does not belong to the model".into()),
        };
        findings.extend(problem.map(|problem| (file.clone(), problem)));
    }
    Ok(findings)
}

/// Whether a file of a model's folder is prepared, not published.
pub(crate) fn is_prepared(file: &str) -> bool {
    file.strip_prefix(PREPARED).is_some_and(|rest| rest.starts_with('/'))
}

/// What was prepared for here and now: its folder and its record.
fn find(folder: Folder<'_>, manifest: &Manifest, runtime: &Runtime) -> Result<(String, Record), Error> {
    let key = Key::of(manifest, runtime);
    let within = key.folder();
    if !folder.path.join(&within).exists() {
        let reason = match folder.path.join(PREPARED).exists() {
            true => "they were prepared for another ONNX Runtime or another processor",
            false => "they were never prepared",
        };
        return Err(doubt(folder, reason));
    }
    let record = read(folder, &format!("{within}/{RECORD}"))?;
    match record.key == key {
        true => Ok((within, record)),
        false => Err(doubt(folder, "they were prepared for another model, ONNX Runtime or processor")),
    }
}

fn read(folder: Folder<'_>, file: &str) -> Result<Record, Error> {
    folder.check(file)?;
    let record: Record = folder.json(file)?;
    match record.format_version {
        FORMAT_VERSION => Ok(record),
        other => Err(Error::invalid(
            folder.model,
            file,
            format_args!("its format version is {other}, expected {FORMAT_VERSION}"),
        )),
    }
}

/// Refuse what was made of files that were touched since: whoever opens them as they are now says what is wrong.
fn check_published(folder: Folder<'_>, record: &Record, spec: &GraphSpec) -> Result<(), Error> {
    spec.files().try_for_each(|file| check_untouched(folder, file, record.published.get(file)).map(drop))
}

/// Refuse a tower's files unless they are as they were left and safe to map; and how many bytes will be mapped.
fn check_tower(folder: Folder<'_>, within: &str, record: &Record, tower: Tower) -> Result<u64, Error> {
    let path = |file: &str| Path::new(within).join(file).to_string_lossy().into_owned();
    let unchanged = |file: &str| check_untouched(folder, &path(file), record.files.get(file));
    let (graph, data) = (graph_file(tower), data_file(tower));
    unchanged(&graph)?;
    // What says where to read is small: it is read through, whatever its times say.
    let bytes = folder.read(&path(&graph))?;
    if record.files.get(&graph).is_none_or(|seal| seal.digest.sha256 != digest(&bytes)) {
        return Err(doubt(folder, format_args!("{graph:?} is not the file that was prepared")));
    }
    let facts = Onnx::parse(bytes).and_then(|onnx| onnx.facts());
    let facts = facts.map_err(|reason| Error::invalid(folder.model, &graph, reason))?;
    if facts.data.iter().any(|file| *file != data) {
        return Err(doubt(folder, format_args!("{graph:?} has weights in a file that was not prepared")));
    }
    let size = if facts.data.is_empty() { 0 } else { unchanged(&data)? };
    match facts.pieces.iter().find(|piece| !piece.is_safe(size)) {
        Some(_) => Err(doubt(folder, format_args!("{data:?} has pieces that are not aligned, or end beyond its end"))),
        None => Ok(size),
    }
}

/// Refuse a file that is not as it was left, or that others could change; and how large it is.
fn check_untouched(folder: Folder<'_>, file: &str, left: Option<&Seal>) -> Result<u64, Error> {
    folder.check(file)?;
    let left = left.ok_or_else(|| doubt(folder, format_args!("{file:?} was not there when they were prepared")))?;
    match *left == Seal::of(folder, file, left.digest.clone())? {
        true => Ok(left.digest.size),
        false => Err(doubt(folder, format_args!("{file:?} was changed, copied or restored since they were prepared"))),
    }
}

impl Piece {
    /// Whether reading it from a mapped file of `size` bytes cannot crash.
    fn is_safe(self, size: u64) -> bool {
        let end = self.length.and_then(|length| self.offset.checked_add(length));
        self.offset.is_multiple_of(ALIGNMENT) && end.is_some_and(|end| end <= size)
    }
}

impl Seal {
    /// A file as it is now, except for its contents, which have that digest.
    fn of(folder: Folder<'_>, file: &str, digest: FileDigest) -> Result<Self, Error> {
        let found = fs::metadata(folder.path.join(file)).map_err(|error| folder.unreadable(file, error))?;
        let digest = FileDigest { size: found.len(), ..digest };
        Ok(Self { digest, modified: (found.mtime(), found.mtime_nsec()), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

fn doubt(folder: Folder<'_>, reason: impl std::fmt::Display) -> Error {
    Error::NotPrepared { model: folder.model.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_pieces_within_the_file_are_safe() {
        let piece = |offset, length| Piece { offset, length };
        assert!(piece(64, Some(36)).is_safe(100));
        assert!(!piece(36, Some(36)).is_safe(100), "not aligned");
        assert!(!piece(64, Some(37)).is_safe(100), "too long");
        assert!(!piece(64, None).is_safe(100), "of unknown length");
        assert!(!piece(64, Some(u64::MAX)).is_safe(100), "wraps around");
    }
}
