//! The client of the hub: files that it fetches, caches and rejects.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod loopback;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use loopback::scene::{Heard, MODEL, NAME, Scene, config, listed, model, status};
use loopback::{COMMIT, Fault};
use pgclip::hub::{Hub, HubError, RemoteFile, Repository, Settings};

#[test]
fn a_repository_is_listed_at_its_commit() {
    let scene = Scene::new();
    let repository = scene.repository();
    assert_eq!((repository.name.as_str(), repository.revision.as_str()), (NAME, COMMIT));
    assert_eq!((repository.branch.as_deref(), repository.license.as_deref()), (Some("main"), Some("mit")));
    let found = listed(&repository, MODEL);
    assert_eq!((found.size, found.sha256.as_deref()), (4_000_000, Some(model().id().as_str())));
    let found = listed(&repository, &config().path);
    assert_eq!((found.sha256.as_deref(), found.blob_id.as_deref()), (None, Some(config().id().as_str())));
    let log = scene.hub.log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].target, format!("/api/models/{NAME}/revision/main?blobs=true"));
    assert_eq!(log[0].header("authorization"), Some("Bearer hf_secret"));
}

#[test]
fn files_are_fetched_into_the_layout_of_the_cache() {
    let scene = Scene::new();
    let repository = scene.repository();
    let files: Vec<_> = repository.files.iter().collect();
    let heard = Heard::default();
    let snapshot = scene.client().download(&repository, &files, &heard).unwrap();
    assert_eq!(snapshot, scene.cache.join("models--open--clip/snapshots").join(COMMIT));
    scene.assert_has(&snapshot, &config());
    scene.assert_has(&snapshot, &model());
    let link = |path: &str| fs::read_link(snapshot.join(path)).unwrap();
    assert_eq!(link(MODEL), Path::new("../../../blobs").join(model().id()));
    assert_eq!(link(&config().path), Path::new("../../blobs").join(config().id()));
    assert_eq!(fs::read_to_string(scene.cache.join("models--open--clip/refs/main")).unwrap(), COMMIT);
    assert_eq!(*heard.bytes.borrow(), 4_000_000 + config().bytes.len() as u64);
    let lines = ["begin a config.json 22 0", "end", "begin onnx/model.onnx 4000000 0", "end"];
    assert_eq!(*heard.lines.borrow(), lines);
}

#[test]
fn the_token_stays_with_the_hub() {
    let scene = Scene::new();
    scene.fetch(&model(), &Heard::default()).unwrap();
    scene.fetch(&config(), &Heard::default()).unwrap();
    let log = scene.hub.log();
    assert_eq!(log.iter().filter(|request| !request.hub).count(), 1);
    for request in log {
        let expected = request.hub.then_some("Bearer hf_secret");
        assert_eq!(request.header("authorization"), expected, "{}", request.target);
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[test]
fn cached_files_are_not_requested() {
    let scene = Scene::new();
    let repository = scene.repository();
    let files: Vec<_> = repository.files.iter().collect();
    scene.client().download(&repository, &files, &Heard::default()).unwrap();
    let requests = scene.hub.log().len();
    let snapshot = scene.client().download(&repository, &files, &Heard::default()).unwrap();
    assert_eq!(scene.hub.log().len(), requests);
    // A missing link is created again without a request.
    fs::remove_file(snapshot.join(MODEL)).unwrap();
    scene.client().download(&repository, &files, &Heard::default()).unwrap();
    assert_eq!(scene.hub.log().len(), requests);
    scene.assert_has(&snapshot, &model());
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let scene = Scene::new();
    let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
    let mut bytes = model().bytes;
    bytes[7] ^= 1;
    fs::write(scene.blobs().join(model().id()), bytes).unwrap();
    scene.fetch(&model(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges(), [None, None]);
}

#[test]
fn rejections_have_different_errors() {
    let scene = Scene::new();
    let asks = |name: &str, revision: &str| scene.client().repository(name, revision, &Heard::default()).unwrap_err();
    let repository = || NAME.to_owned();
    assert_eq!(asks("open/none", "main"), HubError::RepositoryMissing { repository: "open/none".into() });
    let revision = "none".to_owned();
    assert_eq!(asks(NAME, "none"), HubError::RevisionMissing { repository: repository(), revision });
    let missing = HubError::RepositoryMissing { repository: repository() };
    let gated = HubError::Gated { repository: repository() };
    let denied = HubError::Denied { repository: repository() };
    let cases = [
        (status(401, &[("X-Error-Code", "GatedRepo")]), gated.clone()),
        (status(403, &[("X-Error-Code", "GatedRepo")]), gated),
        (status(401, &[]), denied.clone()),
        (status(403, &[]), denied),
        (status(404, &[]), missing),
        (status(401, &[("X-Error-Message", "Invalid credentials in Authorization header")]), HubError::TokenRefused),
    ];
    for (fault, expected) in cases {
        scene.hub.fail_listing([fault]);
        assert_eq!(asks(NAME, "main"), expected);
    }
    let gone = RemoteFile { path: "gone".into(), ..listed(&scene.repository(), MODEL).clone() };
    let found = scene.client().download(&scene.repository(), &[&gone], &Heard::default());
    assert_eq!(found, Err(HubError::FileMissing { repository: repository(), file: "gone".into() }));
    assert!(HubError::Gated { repository: repository() }.to_string().contains("HF_TOKEN"));
}

#[test]
fn unsafe_names_and_sizes_are_refused() {
    let scene = Scene::new();
    for path in ["../x", "/etc/x", "a/../../x", "a\\nb"] {
        let files = format!(r#"[{{"rfilename": "{path}", "size": 1, "blobId": "{}"}}]"#, config().id());
        let document = format!(r#"{{"sha": "{COMMIT}", "siblings": {files}}}"#);
        scene.hub.fail_listing([Fault::Document(document.into())]);
        let found = scene.client().repository(NAME, "main", &Heard::default());
        assert!(matches!(found, Err(HubError::UnsafePath { .. })), "{path}: {found:?}");
    }
    let repository = scene.repository();
    let download = |change: fn(&mut RemoteFile)| {
        let mut file = listed(&repository, MODEL).clone();
        change(&mut file);
        scene.client().download(&repository, &[&file, listed(&repository, MODEL)], &Heard::default()).unwrap_err()
    };
    assert!(matches!(download(|file| file.path = "../x".into()), HubError::UnsafePath { .. }));
    assert!(matches!(download(|file| file.size = u64::MAX), HubError::TooLarge { .. }));
    assert!(matches!(download(|file| file.sha256 = Some("../x".into())), HubError::Malformed { .. }));
    assert!(!scene.cache.exists());
}

#[test]
fn documents_are_bounded() {
    let scene = Scene::new();
    scene.hub.fail_listing([Fault::Document(vec![b' '; 17 << 20])]);
    let found = scene.client().repository(NAME, "main", &Heard::default());
    assert!(matches!(found, Err(HubError::TooLarge { .. })), "{found:?}");
}

#[test]
fn a_cached_snapshot_serves_without_a_network() {
    let scene = Scene::new();
    let repository = scene.repository();
    let refused = scene.offline().repository(NAME, "main", &Heard::default());
    assert!(matches!(refused, Err(HubError::NotCached { .. })));
    let files: Vec<_> = repository.files.iter().collect();
    let snapshot = scene.client().download(&repository, &files, &Heard::default()).unwrap();
    let requests = scene.hub.log().len();

    // No server listens at this address any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let unplugged = Hub::new(Settings { endpoint, ..scene.settings() }, || false).unwrap();

    for client in [scene.offline(), unplugged] {
        for revision in ["main", COMMIT] {
            let found = client.repository(NAME, revision, &Heard::default()).unwrap();
            assert!(found.cached);
            assert_eq!(found.revision, COMMIT);
            let paths = |repository: &Repository| {
                let mut paths: Vec<_> = repository.files.iter().map(|file| file.path.clone()).collect();
                paths.sort();
                paths
            };
            assert_eq!(paths(&found), paths(&repository));
            let files: Vec<_> = found.files.iter().collect();
            assert_eq!(client.download(&found, &files, &Heard::default()), Ok(snapshot.clone()));
        }
        assert!(client.repository(NAME, "other", &Heard::default()).is_err());
    }
    assert_eq!(scene.hub.log().len(), requests);

    fs::remove_file(scene.blobs().join(model().id())).unwrap();
    let found = scene.offline().download(&repository, &files, &Heard::default());
    assert!(matches!(found, Err(HubError::NotCached { .. })), "{found:?}");
}

#[test]
fn a_missing_network_without_a_cache_is_reported_at_once() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let heard = Heard::default();
    let client = Hub::new(Settings { endpoint, ..scene.settings() }, || false).unwrap();
    assert!(matches!(client.repository(NAME, "main", &heard), Err(HubError::Unreachable { .. })));
    assert!(heard.waits().is_empty());
}

#[test]
fn a_branch_is_pinned_after_a_complete_download() {
    let scene = Scene::new();
    let pinned = scene.cache.join("models--open--clip/refs/refs/pr/1");
    let repository = scene.client().repository(NAME, "refs/pr/1", &Heard::default()).unwrap();
    scene.hub.fail_bytes(vec![status(500, &[]); 5]);
    scene.client().download(&repository, &[listed(&repository, MODEL)], &Heard::default()).unwrap_err();
    assert!(!pinned.exists());
    scene.client().download(&repository, &[listed(&repository, MODEL)], &Heard::default()).unwrap();
    assert_eq!(fs::read_to_string(&pinned).unwrap(), COMMIT);

    let commit = scene.client().repository(NAME, COMMIT, &Heard::default()).unwrap();
    assert_eq!(commit.branch, None);
}

#[test]
fn a_blob_is_fetched_once_by_two_at_once() {
    let scene = Scene::new();
    let repository = scene.repository();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let files = [listed(&repository, MODEL)];
                let snapshot = scene.client().download(&repository, &files, &Heard::default()).unwrap();
                scene.assert_has(&snapshot, &model());
            });
        }
    });
    assert_eq!(scene.hub.ranges(), [None]);
    let lock = scene.cache.join(".locks/models--open--clip").join(format!("{}.lock", model().id()));
    assert!(lock.exists());
}

#[test]
fn an_endpoint_must_be_an_address() {
    let scene = Scene::new();
    for endpoint in ["", "huggingface.co", "ftp://x", "/a"] {
        let made = Hub::new(Settings { endpoint: endpoint.into(), ..scene.settings() }, || false);
        assert!(matches!(made, Err(HubError::Environment { variable: "HF_ENDPOINT", .. })), "{endpoint}");
    }
}
