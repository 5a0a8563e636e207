//! Copying the files of a model that is not trusted yet.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::Error;
use crate::folder::{Folder, beside, is_inside};
use crate::import::layout::Layout;
use crate::onnx::file::Onnx;
use crate::store::staging::StagingDir;
use crate::threads::Interrupted;

/// Largest file that is copied. The graphs of CLIP models have a few gigabytes at most.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 30;

/// Largest graph without external weights, which is the limit of protobuf.
pub(crate) const MAX_GRAPH_BYTES: u64 = (2 << 30) - 1;

/// Called with the file that is copied, its size, and the bytes copied so far.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// A copy from a source that is not trusted into a staging directory.
pub(crate) struct Copy<'a, 'p> {
    pub from: Folder<'a>,
    pub into: &'a StagingDir,
    pub interrupted: Interrupted,
    pub progress: Progress<'p>,
}

impl Copy<'_, '_> {
    /// Copies a file of at most `max` bytes.
    pub(crate) fn file(&mut self, file: &str, max: u64) -> Result<(), Error> {
        let unreadable = |error: io::Error| self.from.unreadable(file, error);
        let mut source = self.open(file)?;
        let size = source.metadata().map_err(unreadable)?.len();
        if size > max {
            return Err(Error::invalid(
                self.from.model,
                file,
                format_args!("it has {size} bytes; at most {max} are read"),
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

    /// Opens a file of the source. A link is followed within the folder, or to the blobs of the hub's cache.
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

    /// Copies a graph and the files that hold its weights.
    pub(crate) fn graph(&mut self, file: &str) -> Result<(), Error> {
        self.file(file, MAX_GRAPH_BYTES)?;
        for data in self.parse(file)?.1 {
            if !self.into.path.join(&data).exists() {
                self.file(&data, MAX_FILE_BYTES)?;
            }
        }
        Ok(())
    }

    /// Copies a graph that has both towers, and writes each tower to a file, so that a text does not pay for the image
    /// tower.
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
