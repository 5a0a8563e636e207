//! Models as files: export, import, and files that were changed.

use super::*;

const BLOCK: usize = 512;

/// An entry of a tar archive: its header and its contents.
#[derive(Clone)]
struct Entry {
    header: Vec<u8>,
    contents: Vec<u8>,
}

impl Entry {
    fn set(&mut self, offset: usize, length: usize, value: &[u8]) -> &mut Self {
        self.header[offset..offset + length].fill(0);
        self.header[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    fn path(&mut self, path: &str) -> &mut Self {
        self.set(345, 155, b"").set(0, 100, path.as_bytes())
    }

    fn kind(&mut self, kind: u8) -> &mut Self {
        self.set(156, 1, &[kind])
    }

    fn contents(&mut self, contents: &[u8]) -> &mut Self {
        self.contents = contents.to_vec();
        self.set(124, 12, format!("{:011o}\0", contents.len()).as_bytes())
    }
}

/// Reads an archive that pgclip wrote.
fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = archive;
    while rest[0] != 0 {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[124..135]).unwrap(), 8).unwrap();
        entries.push(Entry { header: rest[..BLOCK].to_vec(), contents: rest[BLOCK..BLOCK + size].to_vec() });
        rest = &rest[BLOCK + size.next_multiple_of(BLOCK)..];
    }
    assert_eq!(rest, [0; 2 * BLOCK]);
    entries
}

/// Writes an archive with correct checksums.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Entry { header, contents } in entries {
        let mut header = header.clone();
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        bytes.extend(header);
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// Returns a directory with the model `photos`, and its exported file.
fn exported() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    assert_eq!(told(&scratch.add("photos", &family("external"))), (0, String::new()));
    let file = scratch.0.join("photos.tar");
    run(scratch.pgclip(&["export", "photos"]).arg(&file));
    (scratch, file)
}

#[test]
fn an_exported_model_is_the_same_model_on_another_server() {
    let (origin, file) = exported();
    let shown = |scratch: &Scratch, name| json(&scratch.pgclip(&["show", name, "--json"]).output().unwrap());
    let original = shown(&origin, "photos");
    let names = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    assert!(names.starts_with("photos/pg_clip.json\nphotos/config.json\n") && !names.contains("prepared"), "{names}");

    let other = Scratch::new();
    assert_eq!(json(&other.pgclip(&["--json", "add", "photos"]).arg(&file).output().unwrap()), original);
    assert_eq!(json(&other.pgclip(&["verify", "--json"]).output().unwrap()), Value::Array(vec![]));
    let mode =
        |path: &str| fs::metadata(other.models().join("photos").join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(""), mode("onnx"), mode("onnx/text_model.onnx_data"), mode("pg_clip.json")],
        [0o755, 0o755, 0o444, 0o444]
    );
    // The digest does not depend on the name.
    run(other.pgclip(&["add", "renamed"]).arg(&file));
    assert_eq!(shown(&other, "renamed")["digest"], original["digest"]);
    // The file depends only on the model.
    let again = other.0.join("again.tar");
    let report = json(&other.pgclip(&["--json", "export", "photos"]).arg(&again).output().unwrap());
    assert_eq!(report["digest"], original["digest"]);
    assert_eq!(report["size_bytes"].as_u64(), Some(fs::metadata(&again).unwrap().len()));
    assert!(fs::read(&again).unwrap() == fs::read(&file).unwrap());

    // The same model is not installed twice, and another one does not replace it.
    let (code, message) = told(&other.add("photos", &file));
    assert_eq!((code, message.as_str()), (0, ""));
    run(other.pgclip(&["rm", "photos", "--force"]));
    run(other.pgclip(&["add", "photos", "--ignore-exif-orientation"]).arg(family("external")));
    let (code, message) = told(&other.add("photos", &file));
    assert!(code == 1 && message.contains("exists already") && message.contains("another digest"), "{code} {message}");
    assert_ne!(shown(&other, "photos")["digest"], original["digest"]);
    assert_eq!(other.entries(), ["photos", "renamed"]);

    let failed = |arguments: &[&str], path: &Path| told(&other.pgclip(arguments).arg(path).output().unwrap());
    assert_eq!(failed(&["add", "third", "--variant", "fp16"], &file).0, 2, "an exported file has no variants");
    assert_eq!(failed(&["export", "third"], &other.0.join("third.tar")).0, 3);
    let (code, message) = failed(&["export", "photos"], &again);
    assert!(code == 1 && message.contains("exists") && fs::metadata(&again).unwrap().len() > 0, "{code} {message}");
    assert_eq!(failed(&["export", "photos"], Path::new("/dev/null")).0, 1);
    assert_eq!(failed(&["export", "photos"], Path::new("/nowhere/photos.tar")).0, 1);
}

#[test]
fn a_changed_model_is_not_exported() {
    let (scratch, _) = exported();
    let weights = scratch.models().join("photos/onnx/text_model.onnx_data");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[1000] ^= 1;
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, bytes).unwrap();
    let (code, message) =
        told(&scratch.pgclip(&["export", "photos"]).arg(scratch.0.join("changed.tar")).output().unwrap());
    assert!(code == 1 && message.contains("onnx/text_model.onnx_data"), "{code} {message}");
    let mut left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["models", "photos.tar"]);
}

#[test]
fn a_changed_or_truncated_file_is_rejected_and_leaves_nothing() {
    let (_scratch, file) = exported();
    let whole = fs::read(&file).unwrap();
    let original = entries(&whole);
    assert!(archive(&original) == whole);
    let scratch = Scratch::new();
    let victim = scratch.0.join("victim");
    fs::write(&victim, "").unwrap();
    let refused = |bytes: &[u8], word: &str| {
        let path = scratch.0.join("changed.tar");
        fs::write(&path, bytes).unwrap();
        let (code, message) = told(&scratch.add("photos", &path));
        assert_eq!(code, 1, "{word}: {message}");
        assert!(message.contains(word) && message.lines().count() == 2, "{word}: {message}");
        assert!(message.contains("Nothing was installed"), "{message}");
        assert!(!scratch.models().exists() || scratch.entries().is_empty(), "{word}: {:?}", scratch.entries());
    };
    let changed = |number: usize, change: &dyn Fn(&mut Entry)| {
        let mut entries = original.clone();
        change(&mut entries[number]);
        archive(&entries)
    };
    let first_data = BLOCK + original[0].contents.len().next_multiple_of(BLOCK);
    for (length, word) in [
        (0, "not written by pgclip export"),
        (100, "not written by pgclip export"),
        (BLOCK + 10, "not written by pgclip export"),
        (first_data, "truncated"),
        (first_data + 100, "failed to read entire block"),
        (first_data + BLOCK + 5, "truncated"),
        (whole.len() / 2, "truncated"),
    ] {
        refused(&whole[..length], word);
    }
    refused(b"\x1f\x8b\x08 no archive", "not written by pgclip export");

    let last = original.len() - 1;
    refused(&changed(last, &|entry| entry.contents[7] ^= 1), "digest");
    refused(
        &changed(last, &|entry| {
            let shorter = entry.contents[1..].to_vec();
            entry.contents(&shorter);
        }),
        "size",
    );
    // Base-256, as GNU writes sizes from 8 GiB.
    refused(
        &changed(last, &|entry| {
            entry.set(124, 12, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
        }),
        "",
    );
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'S', b'L', b'K', b'x', b'g'] {
        let target = victim.display().to_string();
        refused(
            &changed(last, &|entry| {
                entry.kind(kind).set(157, 100, &target.as_bytes()[..target.len().min(99)]);
            }),
            "regular file",
        );
    }
    for path in ["../../victim", "/etc/passwd", "photos/../../victim", "photos/", "other/config.json", "photos/\x1b[2J"]
    {
        refused(
            &changed(last, &|entry| {
                entry.path(path);
            }),
            "does not belong to the model",
        );
    }
    let mut twice = original.clone();
    twice.push(original[last].clone());
    refused(&archive(&twice), "twice");
    let mut more = original.clone();
    more.push(original[last].clone());
    more[last + 1].path("photos/custom_ops.so");
    refused(&archive(&more), "does not belong to the model");
    refused(&archive(&original[..last]), "truncated");
    refused(&archive(&original[1..]), "not written by pgclip export");

    let manifest = String::from_utf8(original[0].contents.clone()).unwrap();
    let with = |manifest: &str| {
        changed(0, &|entry| {
            entry.contents(manifest.as_bytes());
        })
    };
    refused(&with(&manifest.replace("\"onnx/text_model.onnx_data\"", "\"../../../victim\"")), "inside");
    refused(&with(&manifest.replace("\"context_length\"", "\"context\"")), "unknown field");
    let digest = manifest.split("\"digest\": \"").nth(1).unwrap()[..64].to_owned();
    refused(&with(&manifest.replace(&digest, &"0".repeat(64))), "digest");
    refused(&with(&(manifest.clone() + &" ".repeat(2 << 20))), "not written by pgclip export");
    assert_eq!(fs::metadata(&victim).unwrap().len(), 0);
}

#[test]
fn a_killed_import_leaves_no_model_and_the_next_one_tidies_up() {
    let (_origin, file) = exported();
    // A quick import can end before it is killed.
    for _ in 0..100 {
        let scratch = Scratch::new();
        let mut killed = scratch.pgclip(&["add", "photos"]).arg(&file).spawn().unwrap();
        scratch.wait_until_busy();
        signal(&killed, "-KILL");
        killed.wait().unwrap();
        if scratch.entries() == ["photos"] {
            continue;
        }
        assert_eq!(scratch.entries(), [format!(".unfinished-photos-{}", killed.id())]);
        assert_eq!(json(&scratch.pgclip(&["list", "--json"]).output().unwrap()), Value::Array(vec![]));
        assert_eq!(told(&scratch.add("photos", &file)), (0, String::new()));
        assert_eq!(scratch.entries(), ["photos"]);
        return;
    }
    panic!("no import was killed in the middle");
}
