//! A model as one file: a tar archive of the manifest and the files that it lists. External crate: `tar`.
//!
//! The manifest comes first, so that each file can be compared with its size and its digest while it is read. An archive
//! has only regular files of the model, in one directory with the model's name. Names, sizes and contents depend only
//! on the model: an export of the same model is the same file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use tar::{Archive, Entry, EntryType, Header};

use crate::admin::copy::{MAX_FILE_BYTES, MAX_GRAPH_BYTES, Progress};
use crate::error::{Error, Tower};
use crate::folder::{Folder, beside};
use crate::memory::reserve;
use crate::onnx::file::Onnx;
use crate::options::Options;
use crate::samples::try_tower;
use crate::store::manifest::{Digester, MANIFEST_FILE, Manifest, printable_ascii};
use crate::store::prepared::is_prepared;
use crate::store::staging::{StagingDir, store_error};
use crate::store::{check_free, check_name, folder_of};
use crate::threads::Interrupted;

/// Largest manifest in an archive. A file in it needs about 150 bytes, and a model has about ten files.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Size of the blocks of an archive, in bytes.
const BLOCK: u64 = 512;

/// Permissions of a file, for programs that unpack the archive.
const MODE: u32 = 0o444;

/// Writes a stored model to `output`, which is the file `path`. Each file is compared with its digest.
pub fn export(
    model_path: &Path,
    name: &str,
    (path, output): (&Path, &mut dyn Write),
    interrupted: Interrupted,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    let directory = folder_of(model_path, name)?;
    let folder = Folder { path: &directory, model: name };
    let manifest = Manifest::read(folder)?;
    let mut write = |bytes: &[u8]| output.write_all(bytes).map_err(|error| store_error(path, &error));
    let json = manifest.to_json().map_err(|error| folder.unreadable(MANIFEST_FILE, error))?;
    write(header(folder, MANIFEST_FILE, json.len() as u64)?.as_bytes())?;
    write(json.as_bytes())?;
    write(padding(json.len() as u64))?;
    for (file, expected) in &manifest.files {
        folder.check(file)?;
        let mut source = File::open(directory.join(file)).map_err(|error| folder.unreadable(file, error))?;
        write(header(folder, file, expected.size)?.as_bytes())?;
        let mut digester = Digester::default();
        let mut done = 0;
        progress(file, expected.size, done);
        folder.read_through(file, &mut source, interrupted, |chunk| {
            digester.update(chunk);
            done += chunk.len() as u64;
            progress(file, expected.size, done);
            write(chunk)
        })?;
        if digester.finish() != *expected {
            return Err(Error::ModelChanged { model: name.into(), file: file.clone() });
        }
        write(padding(expected.size))?;
    }
    // Two empty blocks end an archive.
    write(&[0; 2 * BLOCK as usize])?;
    Ok(manifest)
}

/// Returns the header of a file in the archive.
fn header(folder: Folder<'_>, file: &str, size: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    let path = format!("{}/{file}", folder.model);
    header.set_path(path).map_err(|error| Error::invalid(folder.model, file, error))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(MODE);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// Returns the bytes that fill the last block of a file.
fn padding(size: u64) -> &'static [u8] {
    const EMPTY: [u8; BLOCK as usize] = [0; BLOCK as usize];
    &EMPTY[..(size.next_multiple_of(BLOCK) - size) as usize]
}

/// Installs the exported model in `archive` as `name`. Its files are compared with the manifest while they are copied,
/// and both encoders run once, before it is published.
///
/// Returns false if the same model is already installed under this name.
pub fn import(
    archive: &Path,
    model_path: &Path,
    name: &str,
    options: &Options,
    progress: Progress<'_>,
) -> Result<(Manifest, bool), Error> {
    check_name(name)?;
    let source = archive.parent().unwrap_or(archive);
    let from = Folder { path: source, model: name };
    let shown = printable_ascii(&archive.file_name().unwrap_or_default().to_string_lossy());
    let unreadable = |error| from.unreadable(&shown, error);
    let mut archive = Archive::new(File::open(archive).map_err(unreadable)?);
    // No extension of the format is interpreted: these can claim names and sizes of any length.
    let mut entries = archive.entries().map_err(unreadable)?.raw(true);
    let foreign = || Error::invalid(name, &shown, "it was not written by pgclip export");
    let first = entries.next().ok_or_else(foreign)?.map_err(|_| foreign())?;
    let (manifest, root) = read_manifest(first, name).map_err(|error| error.unwrap_or_else(foreign))?;
    if let Err(taken) = check_free(model_path, name) {
        let installed =
            folder_of(model_path, name).and_then(|path| Manifest::read(Folder { path: &path, model: name }));
        return match installed {
            Ok(installed) if installed.digest == manifest.digest => Ok((installed, false)),
            _ => Err(taken),
        };
    }

    let staging = StagingDir::begin(model_path, name)?;
    let into = Folder { path: &staging.path, model: name };
    let mut missing: BTreeSet<&str> = manifest.files.keys().map(String::as_str).collect();
    for entry in entries {
        let mut entry = entry.map_err(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let invalid = |reason: &str| Error::invalid(name, &printable_ascii(&path), reason);
        if entry.header().entry_type() != EntryType::Regular {
            return Err(invalid("it is not a regular file"));
        }
        let listed = path.strip_prefix(&root).and_then(|file| manifest.files.get_key_value(file));
        let (file, expected) = listed.ok_or_else(|| invalid("it does not belong to the model"))?;
        if !missing.remove(file.as_str()) {
            return Err(invalid("the archive has it twice"));
        }
        if entry.size() != expected.size {
            return Err(invalid("it does not have the size in the manifest"));
        }
        let is_graph = Tower::BOTH.into_iter().any(|tower| manifest.graph(tower).file == *file);
        if expected.size > if is_graph { MAX_GRAPH_BYTES } else { MAX_FILE_BYTES } {
            return Err(invalid("it is too large"));
        }
        let mut target = staging.create(file)?;
        let mut digester = Digester::default();
        let mut done = 0;
        progress(file, expected.size, done);
        from.read_through(&path, &mut entry, options.interrupted, |chunk| {
            digester.update(chunk);
            done += chunk.len() as u64;
            progress(file, expected.size, done);
            target.write_all(chunk).map_err(|error| staging.failed(error))
        })?;
        if done < expected.size {
            return Err(invalid("the archive is truncated"));
        }
        if digester.finish() != *expected {
            return Err(invalid("it does not have the digest in the manifest"));
        }
        target.sync_all().map_err(|error| staging.failed(error))?;
    }
    if let Some(file) = missing.first() {
        return Err(Error::invalid(name, file, "the archive is truncated"));
    }
    let json = manifest.to_json().map_err(|error| staging.failed(error))?;
    staging.write(MANIFEST_FILE, json.as_bytes())?;
    examine(into, options)?;
    staging.publish(&model_path.join(name))?;
    Ok((manifest, true))
}

/// Reads the manifest, and returns the directory of all files in the archive. Returns no error of its own if the entry
/// is not a manifest.
fn read_manifest(mut entry: Entry<'_, File>, name: &str) -> Result<(Manifest, String), Option<Error>> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let root = path.strip_suffix(MANIFEST_FILE).ok_or(None)?.to_owned();
    if entry.header().entry_type() != EntryType::Regular || entry.size() > MAX_MANIFEST_BYTES {
        return Err(None);
    }
    let mut json = reserve(entry.size() as usize)?;
    json.resize(entry.size() as usize, 0);
    entry.read_exact(&mut json).map_err(|_| None)?;
    let (manifest, exported) = Manifest::parse(&json, name)?;
    if root != format!("{exported}/") {
        return Err(None);
    }
    let is_reserved = |file: &&String| is_prepared(file) || *file == MANIFEST_FILE;
    match manifest.files.keys().find(is_reserved) {
        Some(file) => Err(Some(Error::invalid(name, file, "it cannot be a published file of a model"))),
        None => Ok((manifest, root)),
    }
}

/// Rejects a model that does not run, or whose graphs use files that the manifest does not name.
fn examine(folder: Folder<'_>, options: &Options) -> Result<(), Error> {
    let manifest = Manifest::read(folder)?;
    for tower in Tower::BOTH {
        let spec = manifest.graph(tower);
        let facts = Onnx::read(folder, &spec.file)?.facts();
        let data = facts.map_err(|reason| Error::invalid(folder.model, &spec.file, reason))?.data;
        if let Some(file) = data.iter().map(|data| beside(&spec.file, data)).find(|file| !spec.data.contains(file)) {
            return Err(Error::invalid(
                folder.model,
                &spec.file,
                format_args!("it uses {file:?}, which is not listed"),
            ));
        }
        try_tower(folder, &manifest, tower, options)?;
    }
    Ok(())
}
