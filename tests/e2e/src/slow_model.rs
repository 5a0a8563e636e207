//! The model `slow`, which needs seconds for an image. `pgclip add` runs a model several times, so it adds this one once for all tests,
//! until the command, ONNX Runtime or the model changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::time::UNIX_EPOCH;

use crate::{root, run};

pub const NAME: &str = "slow";

/// Puts the model into a model directory, without prepared files: those belong to the folder in which they were made. `pgclip` returns
/// the command for a model directory.
pub fn install(models: &Path, pgclip: impl Fn(&Path) -> Command) {
    let folder = root().join("tests/fixtures/models").join(NAME);
    let kept = root().join("target/tmp").join(format!("{NAME}-{:x}", newest(&folder)));
    if !kept.exists() {
        let scratch = kept.with_extension(format!("{}-{:?}", id(), std::thread::current().id()));
        fs::create_dir_all(&scratch).unwrap();
        run(pgclip(&scratch).args(["add", NAME, "--license", "MIT"]).arg(&folder));
        fs::remove_dir_all(scratch.join(NAME).join("prepared")).unwrap();
        // Another test may have been faster.
        fs::rename(scratch.join(NAME), &kept).ok();
        fs::remove_dir_all(&scratch).unwrap();
    }
    run(Command::new("cp").arg("--archive").arg(&kept).arg(models.join(NAME)));
}

/// Returns the time of the newest file that the installed model depends on, in nanoseconds.
fn newest(folder: &Path) -> u128 {
    let programs = ["target/release/pgclip", "target/onnxruntime/libonnxruntime.so"].map(|file| root().join(file));
    files(folder).into_iter().chain(programs).map(|file| modified(&file)).max().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn modified(file: &Path) -> u128 {
    let time = fs::metadata(file).unwrap().modified().unwrap();
    time.duration_since(UNIX_EPOCH).unwrap().as_nanos()
}
