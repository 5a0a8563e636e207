//! `pgclip export`: a model as one file.

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clip::admin;
use serde_json::json;

use crate::commands::session::{Session, interrupted};
use crate::failure::Failure;
use crate::output::{self, Bar};

/// Permissions of the file, before the umask.
const MODE: u32 = 0o666;

impl Session {
    pub fn export(&self, name: &str, file: &Path) -> Result<(), Failure> {
        let models = self.place.models()?;
        let failed = |error: std::io::Error| {
            Failure::new(format!("could not write \"{}\": {error}", file.display()))
                .hint("Name a file that does not exist, in a directory with sufficient space.")
        };
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.symlink_metadata().is_ok() {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        // The file gets its name when it is complete.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".pgclip-export-").permissions(Permissions::from_mode(MODE));
        let unfinished = builder.tempfile_in(directory).map_err(failed)?;
        let mut writer = BufWriter::new(&unfinished);
        let mut bar = Bar::new();
        let exported = admin::export(&models, name, (file, &mut writer), interrupted, &mut |file, size, done| {
            bar.set(file, size, done);
        });
        bar.finish();
        let manifest = exported?;
        writer.flush().map_err(failed)?;
        drop(writer);
        unfinished.as_file().sync_all().map_err(failed)?;
        let written = unfinished.persist_noclobber(file).map_err(|error| failed(error.error))?;
        let size = written.metadata().map_err(failed)?.len();
        if self.json {
            return output::json(&json!({"name": name, "digest": manifest.digest, "file": file, "size_bytes": size}));
        }
        output::line(&format!("Exported {name} to {} ({})", file.display(), output::size(size)))?;
        output::line(&format!("{:16}{}", "digest", manifest.digest))
    }
}
