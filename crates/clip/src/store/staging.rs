//! A folder on its way to become part of the store: written and copied where nobody looks, published by one rename.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::{Folder, is_inside};
use crate::import::layout::{Layout, beside};
use crate::onnx::Onnx;
use crate::threads::Interrupted;

/// What is written or removed right now has such a name, which no model has.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Graphs of CLIP models end at some gigabytes; a file that is larger is something else.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 30;

/// The graph itself, without external weights: protobuf can hold no more.
const MAX_GRAPH_BYTES: u64 = (2 << 30) - 1;

/// Everyone may read a model, only its owner may replace it: what the server insists on, whatever the umask. A file is
/// never changed in place, which would crash those who map it: its mode keeps its owner from that by mistake.
const FILE_MODE: u32 = 0o444;
const FOLDER_MODE: u32 = 0o755;

/// Told what is copied: the file, its size, and how much of it there is so far.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// Remove what killed processes left behind, and keep others from beginning until the answer is dropped.
///
/// A folder that is still worked on is locked by its process; the lock ends with that process, however it ends.
pub(crate) fn sweep(model_path: &Path) -> Result<File, Error> {
    let failed = |error: io::Error| store_error(model_path, &error);
    let turn = File::open(model_path).map_err(failed)?;
    turn.lock().map_err(failed)?;
    for entry in fs::read_dir(model_path).map_err(failed)?.flatten() {
        // Anything else of that name is not ours.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_unfinished = is_folder && entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let is_abandoned = || File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
        if is_unfinished && is_abandoned() {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(turn)
}

/// A folder on its way to become a model: removed when dropped, unless it was published.
pub(crate) struct StagingDir {
    pub path: PathBuf,
    /// Says to others that this process is alive.
    _lock: File,
    models: PathBuf,
}

impl StagingDir {
    pub(crate) fn begin(model_path: &Path, name: &str) -> Result<Self, Error> {
        let failed = |error: io::Error| store_error(model_path, &error);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(model_path).map_err(failed)?;
        let _turn = sweep(model_path)?;
        let path = model_path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
        make_folder(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.try_lock().map_err(|error| failed(error.into()))?;
        Ok(Self { path, _lock: lock, models: model_path.into() })
    }

    /// A new file, its folders made as needed.
    fn create(&self, file: &str) -> Result<File, Error> {
        let path = self.path.join(file);
        let mut missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.is_dir()).collect();
        while let Some(folder) = missing.pop() {
            make_folder(folder).map_err(|error| self.failed(error))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let file = file.map_err(|error| self.failed(error))?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(|error| self.failed(error))?;
        Ok(file)
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create(file)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.failed(error))
    }

    /// Let everyone read a file that something else wrote, and make it durable.
    pub(crate) fn finish(&self, file: &File) -> Result<(), Error> {
        let finished = file.set_permissions(Permissions::from_mode(FILE_MODE)).and_then(|()| file.sync_all());
        finished.map_err(|error| self.failed(error))
    }

    pub(crate) fn discard(&self, file: &str) -> Result<(), Error> {
        fs::remove_file(self.path.join(file)).map_err(|error| self.failed(error))
    }

    /// Make it durable, then visible, by one rename.
    pub(crate) fn publish(self, folder: &Path) -> Result<(), Error> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        let mut folders = vec![self.path.clone()];
        while let Some(path) = folders.pop() {
            sync(&path).map_err(|error| self.failed(error))?;
            let entries = fs::read_dir(&path).map_err(|error| self.failed(error))?.flatten();
            folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        // A rename replaces no folder that has something in it: of two that add one name, the first wins.
        match fs::rename(&self.path, folder) {
            Ok(()) => sync(folder.parent().unwrap_or(&self.models)).map_err(|error| self.failed(error)),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Err(Error::ModelExists { name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned() })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(crate) fn failed(&self, error: io::Error) -> Error {
        store_error(&self.models, &error)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // After a publication there is nothing; whatever else cannot be removed, the next sweep tries again.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// A folder that must not be there yet, open to everyone to read whatever the umask.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
}

pub(crate) fn store_error(path: &Path, error: &io::Error) -> Error {
    Error::Store { path: path.display().to_string(), reason: error.to_string() }
}

/// Copies files of a model that is not trusted yet.
pub(crate) struct Copy<'a, 'p> {
    pub from: Folder<'a>,
    pub into: &'a StagingDir,
    pub interrupted: Interrupted,
    pub progress: Progress<'p>,
}

impl Copy<'_, '_> {
    pub(crate) fn file(&mut self, file: &str, most: u64) -> Result<(), Error> {
        let unreadable = |error: io::Error| self.from.unreadable(file, error);
        let mut source = self.open(file)?;
        let size = source.metadata().map_err(unreadable)?.len();
        if size > most {
            return Err(Error::invalid(
                self.from.model,
                file,
                format_args!("it has {size} bytes; at most {most} are read"),
            ));
        }
        let mut target = self.into.create(file)?;
        let mut done = 0;
        (self.progress)(file, size, done);
        self.from.read_through(file, &mut source, self.interrupted, |chunk| {
            target.write_all(chunk).map_err(|error| self.into.failed(error))?;
            done += chunk.len() as u64;
            (self.progress)(file, size, done);
            Ok(())
        })?;
        target.sync_all().map_err(|error| self.into.failed(error))
    }

    /// A file of the source. A link is followed within the folder, or to where the hub's cache keeps the contents.
    fn open(&self, file: &str) -> Result<File, Error> {
        let unreadable = |error: io::Error| self.from.unreadable(file, error);
        let refuse = |reason| Err(Error::ModelUnsafe { model: self.from.model.into(), file: file.into(), reason });
        if !is_inside(file) {
            return refuse("it is not inside the folder");
        }
        let folder = self.from.path.canonicalize().map_err(unreadable)?;
        let path = folder.join(file).canonicalize().map_err(unreadable)?;
        let is_blob = || {
            let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"));
            snapshots.and_then(Path::parent).is_some_and(|repository| path.starts_with(repository.join("blobs")))
        };
        if !path.starts_with(&folder) && !is_blob() {
            return refuse("it is a symbolic link to outside the folder");
        }
        let source = File::open(&path).map_err(unreadable)?;
        let found = source.metadata().map_err(unreadable)?;
        if !found.is_file() {
            return refuse("it is not a regular file");
        }
        if found.nlink() > 1 && !is_blob() {
            return refuse("it has a hard link elsewhere");
        }
        Ok(source)
    }

    /// A graph and the files beside it that hold its weights.
    pub(crate) fn graph(&mut self, file: &str) -> Result<(), Error> {
        self.file(file, MAX_GRAPH_BYTES)?;
        for data in self.parse(file)?.1 {
            if !self.into.path.join(&data).exists() {
                self.file(&data, MAX_FILE_BYTES)?;
            }
        }
        Ok(())
    }

    /// Both towers of a graph that has them in one: so that a text costs no picture.
    pub(crate) fn towers(&mut self, whole: &str) -> Result<Layout, Error> {
        self.graph(whole)?;
        let (onnx, _) = self.parse(whole)?;
        let layout = Layout { text: beside(whole, "text_model.onnx"), image: beside(whole, "vision_model.onnx") };
        for (file, output) in [(&layout.text, "text_embeds"), (&layout.image, "image_embeds")] {
            let part = onnx.part(&[output]).map_err(|reason| Error::invalid(self.from.model, whole, reason))?;
            self.into.write(file, &part)?;
        }
        Ok(layout)
    }

    fn parse(&self, file: &str) -> Result<(Onnx, Vec<String>), Error> {
        let onnx = Onnx::read(Folder { path: &self.into.path, model: self.from.model }, file)?;
        let data = onnx.facts().map_err(|reason| Error::invalid(self.from.model, file, reason))?.data;
        Ok((onnx, data.iter().map(|data| beside(file, data)).collect()))
    }
}
