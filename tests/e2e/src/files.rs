//! Finds files of the repository, for tests that read them.

use std::path::{Path, PathBuf};

/// Returns all files below a directory, in the order of their paths, without links, hidden files and built files.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !path.is_symlink() && !name.starts_with('.') && !["target", "node_modules"].contains(&name)
    });
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Returns all pages below a directory.
pub fn pages_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = files_below(directory);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files
}
