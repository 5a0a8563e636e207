//! A private copy of the server's installation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::pg_config;

/// A copy of the server's installation with its own programs, extension scripts and library of pg_clip. The server finds its files
/// relative to its program. Dropping the copy removes it.
pub struct Installation {
    directory: PathBuf,
    pub bin: PathBuf,
    pub extensions: PathBuf,
    /// Other files are links to the originals.
    pub libraries: PathBuf,
}

impl Installation {
    pub fn copy() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pg_clip-installation-{}-{number}", std::process::id()));
        let [bin, share, lib] =
            ["--bindir", "--sharedir", "--pkglibdir"].map(|option| PathBuf::from(pg_config(option)));
        let common: PathBuf =
            bin.components().zip(share.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let inside = |path: &Path| directory.join(path.strip_prefix(&common).unwrap());
        let extensions = inside(&share).join("extension");
        for new in [&inside(&bin), &extensions, &inside(&lib)] {
            fs::create_dir_all(new).unwrap();
        }
        for entry in fs::read_dir(&bin).unwrap() {
            let program = entry.unwrap().path();
            fs::copy(&program, inside(&program)).unwrap();
        }
        for from in [&share, &share.join("extension"), &lib] {
            for entry in fs::read_dir(from).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_str().unwrap().starts_with("pg_clip") && path.is_file() {
                    fs::copy(&path, inside(&path)).unwrap();
                } else if !inside(&path).exists() {
                    symlink(&path, inside(&path)).unwrap();
                }
            }
        }
        let (bin, libraries) = (inside(&bin), inside(&lib));
        Self { directory, bin, extensions, libraries }
    }

    pub fn pg_config(&self) -> PathBuf {
        self.bin.join("pg_config")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}
