//! Prepared weights are shared if they are valid. Otherwise a session uses the original graph, with the same
//! embeddings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clip::{Choices, Embedding, Error, Tower, store};
use sha2::{Digest, Sha256};
use support::{Store, fixtures, options};

/// The embedded model: the smallest one whose encoders both have tensors that are large enough to be mapped.
const MODEL: &str = "emoji";

fn prepared_store() -> Store {
    let store = Store::new();
    let folder = fixtures().join("../../models").join(MODEL);
    store.add(&folder, MODEL, &Choices::default()).unwrap();
    assert_eq!(store.prepare(MODEL), Ok(true));
    store
}

/// Returns the directory of the prepared files.
fn files(store: &Store) -> PathBuf {
    let mut folders = fs::read_dir(store.0.join(MODEL).join("prepared")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    assert!(folders.next().is_none());
    folder
}

/// Returns the embedding of a text, and whether its weights are shared.
fn embed(store: &Store) -> (Embedding, bool) {
    let mut model = store.open(MODEL);
    let embedding = model.embed_texts(&["red apple"], &options()).unwrap().remove(0).embedding;
    (embedding, model.usage(Tower::Text).unwrap().shared)
}

fn problem(store: &Store) -> String {
    match store::check_prepared(&store.0.join(MODEL), MODEL, &options().runtime, None) {
        Err(Error::NotPrepared { reason, .. }) => reason,
        Err(other) => other.to_string(),
        Ok(()) => "there is no doubt about it".into(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a part of a file by another one of the same length, and updates the record to match.
fn forge(store: &Store, file: &str, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let path = files(store).join(file);
    let mut bytes = fs::read(&path).unwrap();
    let before = sha256(&bytes);
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(&path, &bytes).unwrap();
    let record = files(store).join("prepared.json");
    let text = fs::read_to_string(&record).unwrap().replace(&before, &sha256(&bytes));
    fs::write(&record, text).unwrap();
    seal(store);
}

/// Updates the record to the present times of the files.
fn seal(store: &Store) {
    use std::os::unix::fs::MetadataExt;
    let record = files(store).join("prepared.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    for (file, seal) in json["files"].as_object_mut().unwrap() {
        let found = fs::metadata(files(store).join(file)).unwrap();
        seal["digest"]["size"] = found.len().into();
        seal["modified"] = vec![found.mtime(), found.mtime_nsec()].into();
        seal["changed"] = vec![found.ctime(), found.ctime_nsec()].into();
    }
    fs::write(&record, json.to_string()).unwrap();
}

#[test]
fn prepared_weights_are_shared_and_give_the_same_embeddings() {
    let store = Store::new();
    store.add(&fixtures().join("../../models").join(MODEL), MODEL, &Choices::default()).unwrap();
    assert_eq!(problem(&store), "they were never prepared");
    let (published, shared) = embed(&store);
    assert!(!shared);

    assert_eq!(store.prepare(MODEL), Ok(true));
    assert_eq!(store.prepare(MODEL), Ok(false), "there was nothing left to do");
    assert_eq!(store::check_prepared(&store.0.join(MODEL), MODEL, &options().runtime, None), Ok(()));
    let (prepared, shared) = embed(&store);
    assert!(shared);
    assert!(published.cosine(&prepared) > 0.999_999_9);
    assert_eq!(store::verify(&store.0, MODEL, None, || false), Ok(vec![]));
    let modes = fs::read_dir(files(&store)).unwrap().map(|file| file.unwrap().metadata().unwrap().permissions().mode());
    assert!(modes.into_iter().all(|mode| mode & 0o777 == 0o444));
}

/// The expected message, and a function that causes the damage.
type Damage = (&'static str, fn(&Store));

#[test]
fn unusable_prepared_files_are_not_mapped_and_the_original_graph_is_used() {
    let (published, _) = {
        let store = Store::new();
        store.add(&fixtures().join("../../models").join(MODEL), MODEL, &Choices::default()).unwrap();
        embed(&store)
    };
    let damages: [Damage; 14] = [
        ("\"onnx/text_model.onnx\" was changed, copied or restored", |store| {
            let path = store.0.join(MODEL).join("onnx/text_model.onnx");
            fs::write(&path, fs::read(&path).unwrap()).unwrap();
        }),
        ("changed, copied or restored", |store| {
            let file = OpenOptions::new().write(true).open(files(store).join("text.data")).unwrap();
            file.set_len(4096).unwrap();
        }),
        ("changed, copied or restored", |store| {
            let mut bytes = fs::read(files(store).join("text.data")).unwrap();
            bytes[12345] ^= 1;
            fs::write(files(store).join("text.data"), bytes).unwrap();
        }),
        ("changed, copied or restored", |store| {
            let path = files(store).join("text.data");
            fs::copy(&path, path.with_extension("copy")).unwrap();
            fs::rename(path.with_extension("copy"), path).unwrap();
        }),
        ("end beyond its end", |store| {
            let file = OpenOptions::new().write(true).open(files(store).join("text.data")).unwrap();
            file.set_len(4096).unwrap();
            seal(store);
        }),
        ("not aligned", |store| {
            // The number keeps its length, so the graph stays well-formed.
            let (before, offset) = first_offset(store);
            let moved = (offset.parse::<u64>().unwrap() + 4).to_string();
            forge(store, "text.onnx", &[&before, offset.as_bytes()].concat(), &[&before, moved.as_bytes()].concat());
        }),
        ("a file that was not prepared", |store| forge(store, "text.onnx", b"text.data", b"othr.data")),
        ("not inside the folder", |store| forge(store, "text.onnx", b"text.data", b"../a.data")),
        ("is not the file that was prepared", |store| {
            fs::copy(files(store).join("image.onnx"), files(store).join("text.onnx")).unwrap();
            seal(store);
        }),
        ("for another model", |store| {
            let record = files(store).join("prepared.json");
            let digest = store.open(MODEL).manifest().digest.clone();
            let text = fs::read_to_string(&record).unwrap().replace(&digest, &digest.replace('1', "2"));
            fs::write(record, text).unwrap();
        }),
        ("another ONNX Runtime or another processor", |store| {
            fs::rename(files(store), store.0.join(MODEL).join("prepared/0123456789abcdef")).unwrap();
        }),
        ("prepared.json", |store| fs::write(files(store).join("prepared.json"), b"{\"format").unwrap()),
        ("symbolic link", |store| {
            let path = files(store).join("text.data");
            fs::rename(&path, path.with_extension("real")).unwrap();
            std::os::unix::fs::symlink("text.real", path).unwrap();
        }),
        ("written by others", |store| {
            fs::set_permissions(files(store).join("text.data"), Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (expected, damage) in damages {
        let store = prepared_store();
        damage(&store);
        let problem = problem(&store);
        assert!(problem.contains(expected), "expected {expected:?}, found {problem:?}");
        let (embedding, shared) = embed(&store);
        assert!(!shared, "{expected}");
        assert!(published.cosine(&embedding) > 0.999_999_9, "{expected}");
        // Another preparation repairs the damage.
        assert_eq!(store.prepare(MODEL), Ok(true), "{expected}");
        assert!(embed(&store).1, "{expected}");
        assert_eq!(store::verify(&store.0, MODEL, None, || false), Ok(vec![]), "{expected}");
    }
}

/// Returns the first offset other than zero in the text encoder's graph, and the bytes before it.
fn first_offset(store: &Store) -> (Vec<u8>, String) {
    let bytes = fs::read(files(store).join("text.onnx")).unwrap();
    let key = b"offset\x12";
    let places = bytes.windows(key.len()).enumerate().filter(|(_, window)| window == key);
    let values = places.map(|(at, _)| at + key.len() + 1);
    let offsets = values.map(|at| {
        let text = &bytes[at..at + usize::from(bytes[at - 1])];
        (bytes[at - key.len() - 1..at].to_vec(), String::from_utf8(text.to_vec()).unwrap())
    });
    offsets.into_iter().find(|(_, offset)| offset != "0").unwrap()
}

#[test]
fn verify_reads_prepared_files() {
    let store = prepared_store();
    let path = files(&store).join("image.data");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4321] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::write(files(&store).join("left.over"), b"").unwrap();
    let findings = store::verify(&store.0, MODEL, None, || false).unwrap();
    let mut found: Vec<_> =
        findings.iter().map(|finding| (finding.file.rsplit('/').next().unwrap(), &*finding.problem)).collect();
    found.sort();
    assert_eq!(
        found,
        [("image.data", "it is not the file that was prepared"), ("left.over", "it does not belong to the model"),]
    );
}

#[test]
fn a_model_that_changed_is_not_prepared() {
    let store = prepared_store();
    fs::remove_dir_all(store.0.join(MODEL).join("prepared")).unwrap();
    fs::write(store.0.join(MODEL).join("onnx/text_model.onnx"), b"another").unwrap();
    assert!(matches!(store.prepare(MODEL), Err(Error::ModelChanged { file, .. }) if file == "onnx/text_model.onnx"));
    assert!(!store.0.join(MODEL).join("prepared").exists());
    assert_eq!(fs::read_dir(&store.0).unwrap().count(), 1, "something half-made was left");
}
