//! Prepared weights: graphs as ONNX Runtime optimizes and packs them, in files that all processes map and so share.
//!
//! Invariants: a mapped file was saved for this model by this ONNX Runtime on such a processor, was tried by the
//! process that saved it, and has not changed since; each range of data begins at a multiple of 64 bytes and ends
//! within its file, because any other crashes the process. In doubt the files are rejected, and the published graph is
//! used instead. Nothing is changed in place: a mapped file that is truncated crashes the processes that map it.
//!
//! The files of a model are in its own folder, or, if that is read-only, in a folder of its name in another directory.
//! The same rules of trust apply there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Tower};
use crate::folder::{Folder, files_of};
use crate::onnx::facts::DataRange;
use crate::onnx::file::Onnx;
use crate::recipe::GraphSpec;
use crate::runtime::library::Runtime;
use crate::store::manifest::{Manifest, digest, digest_file};
use crate::store::record::{Key, PREPARED, RECORD, Record, Seal, data_file, graph_file};
use crate::threads::Interrupted;

/// Alignment of ranges, because kernels read whole vectors. The widest have 64 bytes.
const ALIGNMENT: u64 = 64;

/// Returns the prepared graph of a tower, if it can be trusted, and how many bytes of weights are shared by mapping it.
pub(crate) fn locate(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    runtime: &Runtime,
    elsewhere: Option<&Path>,
) -> Result<(PathBuf, u64), Error> {
    let path = holder(folder, elsewhere);
    let holder = Folder { path: &path, ..folder };
    let (within, record) = find(holder, manifest, runtime)?;
    check_published(folder, &record, manifest.graph(tower))?;
    let shared = check_tower(holder, &within, &record, tower)?;
    Ok((path.join(&within).join(graph_file(tower)), shared))
}

/// Returns the folder in which a model's folder of prepared files is. `elsewhere` is the directory of the prepared files
/// of all models.
pub(crate) fn holder(folder: Folder<'_>, elsewhere: Option<&Path>) -> PathBuf {
    elsewhere.map_or_else(|| folder.path.into(), |directory| directory.join(folder.model))
}

/// Returns an error that gives the reason, unless both towers can be opened from prepared files.
pub(crate) fn check(
    folder: Folder<'_>,
    manifest: &Manifest,
    runtime: &Runtime,
    elsewhere: Option<&Path>,
) -> Result<(), Error> {
    Tower::BOTH.into_iter().try_for_each(|tower| locate(folder, manifest, tower, runtime, elsewhere).map(drop))
}

/// Returns the defects of the prepared files of a model, for every key: file and problem.
pub(crate) fn verify(
    model: Folder<'_>,
    manifest: &Manifest,
    elsewhere: Option<&Path>,
    interrupted: Interrupted,
) -> Result<Vec<(String, String)>, Error> {
    let path = holder(model, elsewhere);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let folder = Folder { path: &path, ..model };
    let files = files_of(folder.path).map_err(|error| folder.unreadable(PREPARED, error))?;
    let files: Vec<_> = files.into_iter().filter(|file| is_prepared(file)).collect();
    let records: BTreeMap<&str, _> = files
        .iter()
        .filter_map(|file| file.strip_suffix(RECORD))
        .map(|within| (within, Record::read(folder, &format!("{within}{RECORD}"))))
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

/// Returns true if a file of a model's folder is a prepared one, not a published one.
pub(crate) fn is_prepared(file: &str) -> bool {
    file.strip_prefix(PREPARED).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the folder and the record of the files for this ONNX Runtime on this processor.
fn find(folder: Folder<'_>, manifest: &Manifest, runtime: &Runtime) -> Result<(String, Record), Error> {
    let key = Key::of(manifest, runtime);
    let within = key.folder();
    if !folder.path.join(&within).exists() {
        let reason = match folder.path.join(PREPARED).exists() {
            true => "they were prepared for another ONNX Runtime or another processor",
            false => "they were never prepared",
        };
        return Err(not_prepared(folder, reason));
    }
    let record = Record::read(folder, &format!("{within}/{RECORD}"))?;
    match record.key == key {
        true => Ok((within, record)),
        false => Err(not_prepared(folder, "they were prepared for another model, ONNX Runtime or processor")),
    }
}

/// Rejects files made of published files that have changed since. Opening the published ones then reports the reason.
fn check_published(folder: Folder<'_>, record: &Record, spec: &GraphSpec) -> Result<(), Error> {
    spec.files().try_for_each(|file| check_untouched(folder, file, record.published.get(file)).map(drop))
}

/// Rejects a tower's files unless they are unchanged and safe to map. Returns the bytes that will be mapped.
pub(crate) fn check_tower(folder: Folder<'_>, within: &str, record: &Record, tower: Tower) -> Result<u64, Error> {
    let path = |file: &str| Path::new(within).join(file).to_string_lossy().into_owned();
    let unchanged = |file: &str| check_untouched(folder, &path(file), record.files.get(file));
    let (graph, data) = (graph_file(tower), data_file(tower));
    unchanged(&graph)?;
    // The graph names the ranges to read and is small, so it is always read and verified.
    let bytes = folder.read(&path(&graph))?;
    if record.files.get(&graph).is_none_or(|seal| seal.digest.sha256 != digest(&bytes)) {
        return Err(not_prepared(folder, format_args!("{graph:?} is not the file that was prepared")));
    }
    let facts = Onnx::parse(bytes).and_then(|onnx| onnx.facts());
    let facts = facts.map_err(|reason| Error::invalid(folder.model, &graph, reason))?;
    if facts.data.iter().any(|file| *file != data) {
        return Err(not_prepared(folder, format_args!("{graph:?} has weights in a file that was not prepared")));
    }
    let size = if facts.data.is_empty() { 0 } else { unchanged(&data)? };
    match facts.ranges.iter().find(|range| !range.is_safe(size)) {
        Some(_) => {
            Err(not_prepared(folder, format_args!("{data:?} has pieces that are not aligned, or end beyond its end")))
        }
        None => Ok(size),
    }
}

/// Rejects a file that has changed, or that others can change. Returns its size.
fn check_untouched(folder: Folder<'_>, file: &str, left: Option<&Seal>) -> Result<u64, Error> {
    folder.check(file)?;
    let left =
        left.ok_or_else(|| not_prepared(folder, format_args!("{file:?} was not there when they were prepared")))?;
    match *left == Seal::of(folder, file, left.digest.clone())? {
        true => Ok(left.digest.size),
        false => {
            Err(not_prepared(folder, format_args!("{file:?} was changed, copied or restored since they were prepared")))
        }
    }
}

impl DataRange {
    /// Returns true if reading the range from a mapped file of `size` bytes cannot crash.
    fn is_safe(self, size: u64) -> bool {
        let end = self.length.and_then(|length| self.offset.checked_add(length));
        self.offset.is_multiple_of(ALIGNMENT) && end.is_some_and(|end| end <= size)
    }
}

/// Returns the error of prepared files that are missing or not trusted.
pub(crate) fn not_prepared(folder: Folder<'_>, reason: impl std::fmt::Display) -> Error {
    Error::NotPrepared { model: folder.model.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_pieces_within_the_file_are_safe() {
        let range = |offset, length| DataRange { offset, length };
        assert!(range(64, Some(36)).is_safe(100));
        assert!(!range(36, Some(36)).is_safe(100), "not aligned");
        assert!(!range(64, Some(37)).is_safe(100), "too long");
        assert!(!range(64, None).is_safe(100), "of unknown length");
        assert!(!range(64, Some(u64::MAX)).is_safe(100), "wraps around");
    }
}
