//! Conditions of packages: the same version in all files, and an uninstallation that leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::root;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn every_file_names_one_version() {
    let meta: serde_json::Value = serde_json::from_str(&read("META.json")).unwrap();
    let provided = &meta["provides"]["pg_clip"];
    assert_eq!(meta["version"], VERSION);
    assert_eq!(provided["version"], VERSION);
    assert_eq!(provided["file"], format!("sql/pg_clip--{VERSION}.sql"));
    for key in ["file", "docfile"] {
        assert!(root().join(provided[key].as_str().unwrap()).exists(), "META.json names a {key} that is not there");
    }
    assert!(read("pg_clip.control").contains(&format!("\ndefault_version = '{VERSION}'\n")));
    assert!(read("CHANGELOG.md").starts_with(&format!("## {VERSION} (")));
}

/// Returns everything in a directory except directories.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn make(target: &str, destination: &Path) -> String {
    let mut command = Command::new("make");
    // If make runs this test, its variables must not reach this make.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(root()).arg(target);
    command.arg(format!("DESTDIR={}", destination.display()));
    command.arg(format!("PG_CONFIG={}", std::env::var("PG_CONFIG").unwrap_or("pg_config".to_owned())));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn uninstalling_leaves_added_models_and_nothing_else() {
    let destination = std::env::temp_dir().join(format!("pg_clip-packaging-{}", std::process::id()));
    make("install", &destination);
    let installed = files(&destination);
    for end in [
        "bin/pgclip",
        "pg_clip.so",
        "pg_clip.control",
        "models/emoji/onnx/text_model.onnx",
        "pg_clip/examples/emoji.sql",
        "pg_clip/examples/emoji.tsv",
    ] {
        assert!(installed.iter().any(|path| path.ends_with(end)), "{end} was not installed");
    }

    // The installed model passes the check, and its directory has no other files.
    let models =
        installed.iter().find_map(|path| path.ends_with("models/emoji/pg_clip.json").then(|| path.ancestors().nth(2)));
    let mut verify =
        Command::new(destination.join(installed.iter().find(|path| path.ends_with("bin/pgclip")).unwrap()));
    verify.arg("--model-path").arg(models.flatten().unwrap()).arg("--onnxruntime");
    e2e::run(verify.arg(root().join("target/onnxruntime/libonnxruntime.so")).arg("verify"));
    let manifest = installed.iter().find(|path| path.ends_with("models/emoji/pg_clip.json")).unwrap();
    let added = manifest.parent().unwrap().with_file_name("added").join("pg_clip.json");
    std::fs::create_dir(added.parent().unwrap()).unwrap();
    std::fs::write(&added, "{}").unwrap();
    let said = make("uninstall", &destination);
    assert!(said.contains("stay") && said.ends_with("\nadded\n"), "{said}");
    assert_eq!(files(&destination), [added.as_path()]);

    std::fs::remove_dir_all(added.parent().unwrap()).unwrap();
    assert!(!make("uninstall", &destination).contains("stay"));
    assert_eq!(files(&destination), Vec::<PathBuf>::new());
    std::fs::remove_dir_all(&destination).unwrap();
}

/// `sudo pgclip` and shells find the command, wherever the server's programs are.
#[test]
fn installing_links_the_command_and_uninstalling_removes_its_own_link() {
    let scratch = std::env::temp_dir().join(format!("pg_clip-link-{}", std::process::id()));
    let folder = scratch.join("bin");
    let makes = |target: &str| {
        let mut command = Command::new("make");
        command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(root()).args(["--dry-run", target]);
        command.arg(format!("LINKDIR={}", folder.display()));
        command.arg(format!("PG_CONFIG={}", std::env::var("PG_CONFIG").unwrap_or("pg_config".to_owned())));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // Only the lines about the link run: a test installs nothing into the server.
    let run_link_of = |target: &str| {
        let link = folder.join("pgclip").display().to_string();
        let said = makes(target);
        let lines: Vec<_> = said.lines().filter(|line| line.contains(&link) && !line.starts_with("echo")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        e2e::run(Command::new("sh").args(["-c", lines[0]]));
    };
    run_link_of("install");
    let target = std::fs::read_link(folder.join("pgclip")).unwrap();
    assert_eq!(target, Path::new(&e2e::pg_config("--bindir")).join("pgclip"));
    run_link_of("uninstall");
    assert!(!folder.join("pgclip").is_symlink());
    // The link of another server stays.
    std::os::unix::fs::symlink("/elsewhere/pgclip", folder.join("pgclip")).unwrap();
    run_link_of("uninstall");
    assert!(folder.join("pgclip").is_symlink());
    std::fs::remove_dir_all(&scratch).unwrap();
}

/// Runs the image's entry point with replacements of the official image's programs.
#[test]
fn the_entry_point_copies_models_and_always_starts_the_server() {
    let scratch = std::env::temp_dir().join(format!("pg_clip-entrypoint-{}", std::process::id()));
    let (programs, own, volume) = (scratch.join("bin"), scratch.join("own"), scratch.join("volume"));
    for folder in [&programs, &own, &volume] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let program = |name: &str, script: &str| {
        let path = programs.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let command = root().join("target/release/pgclip");
    let runtime = root().join("target/onnxruntime/libonnxruntime.so");
    let pgclip = |models: &Path| {
        let mut pgclip = Command::new(&command);
        pgclip.arg("--model-path").arg(models).arg("--onnxruntime").arg(&runtime);
        pgclip
    };
    program("gosu", "shift; exec \"$@\"");
    program("docker-entrypoint.sh", "echo started \"$@\"");
    let (command, models, library) = (command.display(), volume.display(), runtime.display());
    program("pgclip", &format!("exec {command} --model-path {models} --onnxruntime {library} \"$@\""));
    e2e::run(pgclip(&own).args(["add", "emoji"]).arg(root().join("models/emoji")));

    let start = || {
        let output = Command::new(root().join("docker/entrypoint.sh"))
            .args(["postgres", "-c", "port=1"])
            .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()))
            .env("PG_CLIP_VOLUME", &volume)
            .env("PG_CLIP_OWN_MODELS", &own)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "started postgres -c port=1\n", "{said}");
        said
    };
    let said = start();
    assert!(said.contains("copied the model emoji") && said.contains("emoji: prepared"), "{said}");
    e2e::run(pgclip(&volume).args(["verify", "emoji"]));
    let said = start();
    assert!(!said.contains("copied") && said.contains("prepared already"), "what is there is left alone: {said}");
    program("pgclip", "echo out of order; exit 1");
    assert!(start().contains("out of order"), "the server starts all the same");
    std::fs::remove_dir_all(&scratch).unwrap();
}
