//! The client of the hub against a hub on this machine.

mod loopback;

use std::cell::RefCell;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loopback::{COMMIT, Fault, Loopback, Stored};
use pgclip::hub::{Hub, HubError, Interrupted, Pace, Progress, RemoteFile, Repository, Settings};

const NAME: &str = "open/clip";
const MODEL: &str = "onnx/model.onnx";

/// Hears everything; calls `advanced` with all bytes so far.
#[derive(Default)]
struct Heard {
    lines: RefCell<Vec<String>>,
    bytes: RefCell<u64>,
    advanced: Option<fn(u64)>,
}

impl Progress for Heard {
    fn begin(&self, file: &str, size: u64, already: u64) {
        self.lines.borrow_mut().push(format!("begin {file} {size} {already}"));
    }
    fn advance(&self, bytes: u64) {
        let all = self.bytes.borrow().saturating_add(bytes);
        self.bytes.replace(all);
        if let Some(advanced) = self.advanced {
            advanced(all);
        }
    }
    fn end(&self) {
        self.lines.borrow_mut().push("end".into());
    }
    fn wait(&self, reason: &str, seconds: u64) {
        self.lines.borrow_mut().push(format!("wait {seconds}: {reason}"));
    }
}

impl Heard {
    fn waits(&self) -> Vec<u64> {
        let seconds = |line: &String| line.strip_prefix("wait ")?.split(':').next()?.parse().ok();
        self.lines.borrow().iter().filter_map(seconds).collect()
    }
}

/// An empty cache, gone at the end.
struct Scene {
    hub: Loopback,
    cache: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.cache));
    }
}

fn model() -> Stored {
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    Stored::new(MODEL, &bytes, true)
}

fn config() -> Stored {
    Stored::new("a config.json", br#"{"model_type": "clip"}"#, false)
}

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cache = std::env::temp_dir().join(format!("pgclip-hub-{}-{number}", std::process::id()));
        Self { hub: Loopback::start(NAME, &[config(), model()]), cache }
    }

    fn settings(&self) -> Settings {
        let pace = Pace {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            second: Duration::from_millis(1),
        };
        let (endpoint, token) = (self.hub.endpoint.clone(), Some("hf_secret".into()));
        Settings { endpoint, token, cache: self.cache.clone(), offline: false, pace }
    }

    fn client(&self) -> Hub {
        Hub::new(self.settings(), || false).unwrap()
    }

    fn offline(&self) -> Hub {
        Hub::new(Settings { offline: true, ..self.settings() }, || false).unwrap()
    }

    fn repository(&self) -> Repository {
        self.client().repository(NAME, "main", &Heard::default()).unwrap()
    }

    /// Fetch one file with a client of its own.
    fn fetch(&self, file: &Stored, heard: &Heard) -> Result<PathBuf, HubError> {
        self.fetch_until(file, heard, || false)
    }

    fn fetch_until(&self, file: &Stored, heard: &Heard, interrupted: Interrupted) -> Result<PathBuf, HubError> {
        let repository = self.repository();
        let client = Hub::new(self.settings(), interrupted).unwrap();
        client.download(&repository, &[listed(&repository, &file.path)], heard)
    }

    fn blobs(&self) -> PathBuf {
        self.cache.join("models--open--clip/blobs")
    }

    fn partial(&self, file: &Stored) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", file.id()))
    }

    /// Names of what is in the folder of the blobs.
    fn blob_names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.blobs()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn assert_has(&self, snapshot: &Path, file: &Stored) {
        assert!(fs::read(snapshot.join(&file.path)).unwrap() == file.bytes, "{} differs", file.path);
        assert!(fs::read(self.blobs().join(file.id())).unwrap() == file.bytes);
        assert!(!self.partial(file).exists());
    }
}

fn listed<'a>(repository: &'a Repository, path: &str) -> &'a RemoteFile {
    repository.files.iter().find(|file| file.path == path).unwrap()
}

fn status(status: u16, headers: &[(&'static str, &str)]) -> Fault {
    Fault::Status(status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

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
fn what_is_cached_is_not_asked_for() {
    let scene = Scene::new();
    let repository = scene.repository();
    let files: Vec<_> = repository.files.iter().collect();
    scene.client().download(&repository, &files, &Heard::default()).unwrap();
    let requests = scene.hub.log().len();
    let snapshot = scene.client().download(&repository, &files, &Heard::default()).unwrap();
    assert_eq!(scene.hub.log().len(), requests);
    // A link that is gone is made again, without a request.
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
fn a_cut_download_goes_on_where_it_was() {
    let scene = Scene::new();
    scene.hub.fail_bytes([Fault::Cut(1_000_000), Fault::Cut(500_000), Fault::Cut(0)]);
    let heard = Heard::default();
    let snapshot = scene.fetch(&model(), &heard).unwrap();
    scene.assert_has(&snapshot, &model());
    let ranges = scene.hub.ranges();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=1000000-"));
    assert_eq!(ranges[2].as_deref(), Some("bytes=1500000-"));
    assert_eq!(ranges[3], ranges[2]);
    assert_eq!(heard.waits(), [1, 1, 2]);
    assert_eq!(*heard.bytes.borrow(), 4_000_000);
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let scene = Scene::new();
    let repository = scene.repository();
    let pace = Pace { idle: Duration::from_millis(300), ..scene.settings().pace };
    let client = Hub::new(Settings { pace, ..scene.settings() }, || false).unwrap();
    scene.hub.fail_bytes([Fault::Stall(1_000_000)]);
    let snapshot = client.download(&repository, &[listed(&repository, MODEL)], &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges()[1].as_deref(), Some("bytes=1000000-"));
}

#[test]
fn more_cuts_than_attempts_are_survived_while_bytes_arrive() {
    let scene = Scene::new();
    scene.hub.fail_bytes(vec![Fault::Cut(300_000); 12]);
    let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges().len(), 13);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let scene = Scene::new();
    scene.hub.fail_bytes([Fault::Cut(1_000_000), Fault::WithoutRange]);
    let heard = Heard::default();
    let snapshot = scene.fetch(&model(), &heard).unwrap();
    scene.assert_has(&snapshot, &model());
    let begins: Vec<_> = heard.lines.borrow().iter().filter(|line| line.starts_with("begin")).cloned().collect();
    assert_eq!(begins, vec!["begin onnx/model.onnx 4000000 0"; 2]);
}

#[test]
fn a_server_that_refuses_the_range_starts_over() {
    for fault in [status(416, &[]), Fault::WrongRange] {
        let scene = Scene::new();
        scene.hub.fail_bytes([Fault::Cut(1_000_000), fault]);
        let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
        scene.assert_has(&snapshot, &model());
        let ranges = scene.hub.ranges();
        assert_eq!(ranges.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    }
}

#[test]
fn a_server_that_always_starts_over_is_given_up() {
    let scene = Scene::new();
    let faults = [Fault::Cut(1_000), status(416, &[])];
    scene.hub.fail_bytes(faults.into_iter().cycle().take(100));
    assert!(matches!(scene.fetch(&model(), &Heard::default()), Err(HubError::Failing { .. })));
    assert_eq!(scene.hub.ranges().len(), 5);
}

#[test]
fn wrong_bytes_are_fetched_once_more() {
    for file in [model(), config()] {
        for fault in [Fault::Garbled, Fault::Short(20), Fault::Endless] {
            let scene = Scene::new();
            scene.hub.fail_bytes([fault]);
            let snapshot = scene.fetch(&file, &Heard::default()).unwrap();
            scene.assert_has(&snapshot, &file);
        }
    }
}

#[test]
fn bytes_that_stay_wrong_leave_nothing() {
    for (fault, found) in [(Fault::Garbled, "sha256 "), (Fault::Short(20), "20 bytes"), (Fault::Endless, "more")] {
        let scene = Scene::new();
        scene.hub.fail_bytes(vec![fault; 2]);
        match scene.fetch(&model(), &Heard::default()) {
            Err(HubError::WrongBytes { file, expected, found: actual }) => {
                assert_eq!(file, MODEL);
                assert!(actual.starts_with(found), "{actual}");
                assert_ne!(actual, expected);
                assert!([format!("sha256 {}", model().id()), "4000000 bytes".into()].contains(&expected), "{expected}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(scene.blob_names(), Vec::<String>::new());
        assert_eq!(scene.hub.ranges(), [None, None]);
    }
}

#[test]
fn a_wrong_partial_file_is_thrown_away() {
    let scene = Scene::new();
    fs::create_dir_all(scene.blobs()).unwrap();
    fs::write(scene.partial(&model()), [7; 5_000]).unwrap();
    let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges(), [Some("bytes=5000-".to_owned()), None]);
}

#[test]
fn a_partial_file_of_all_bytes_needs_no_request() {
    let scene = Scene::new();
    fs::create_dir_all(scene.blobs()).unwrap();
    fs::write(scene.partial(&model()), model().bytes).unwrap();
    let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges(), []);
}

#[test]
fn a_partial_file_of_too_many_bytes_is_emptied() {
    let scene = Scene::new();
    fs::create_dir_all(scene.blobs()).unwrap();
    fs::write(scene.partial(&config()), [7; 5_000]).unwrap();
    let snapshot = scene.fetch(&config(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &config());
}

#[test]
fn refusals_are_told_apart() {
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
fn a_server_that_asks_for_a_pause_gets_it() {
    let scene = Scene::new();
    scene.hub.fail_listing([status(429, &[("Retry-After", "7")]), status(503, &[("Retry-After", "100000")])]);
    scene.hub.fail_bytes([status(429, &[("RateLimit", "\"resolvers\";r=0;t=55")])]);
    let heard = Heard::default();
    let repository = scene.client().repository(NAME, "main", &heard).unwrap();
    assert_eq!(heard.waits(), [7, 300]);
    let heard = Heard::default();
    scene.client().download(&repository, &[listed(&repository, MODEL)], &heard).unwrap();
    assert_eq!(heard.waits(), [55]);
}

#[test]
fn the_pause_is_as_long_as_asked() {
    let scene = Scene::new();
    scene.hub.fail_listing([status(429, &[("Retry-After", "50")])]);
    let start = Instant::now();
    scene.repository();
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_failing_server_is_asked_five_times() {
    let scene = Scene::new();
    scene.hub.fail_bytes(vec![status(500, &[]); 3]);
    let heard = Heard::default();
    let snapshot = scene.fetch(&model(), &heard).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(heard.waits(), [1, 2, 4]);

    let scene = Scene::new();
    scene.hub.fail_bytes(vec![status(500, &[]); 100]);
    assert!(matches!(scene.fetch(&model(), &Heard::default()), Err(HubError::Failing { .. })));
    assert_eq!(scene.hub.ranges().len(), 5);

    scene.hub.fail_listing(vec![status(502, &[]); 5]);
    let asked = scene.client().repository(NAME, "main", &Heard::default());
    assert!(matches!(asked, Err(HubError::Failing { .. })));
}

#[test]
fn an_expired_signature_is_renewed_by_the_hub() {
    let scene = Scene::new();
    scene.hub.fail_bytes([status(403, &[])]);
    let snapshot = scene.fetch(&model(), &Heard::default()).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.log().iter().filter(|request| request.target.contains("/resolve/")).count(), 2);
}

#[test]
fn an_interrupted_download_is_continued_by_the_next() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let scene = Scene::new();
    scene.hub.fail_bytes([Fault::Stall(1_000_000)]);
    let stop = |bytes| {
        if bytes == 1_000_000 {
            STOP.store(true, Ordering::Relaxed);
        }
    };
    let heard = Heard { advanced: Some(stop), ..Heard::default() };
    let start = Instant::now();
    let found = scene.fetch_until(&model(), &heard, || STOP.load(Ordering::Relaxed));
    assert_eq!(found, Err(HubError::Interrupted));
    // Long before the 30 s after which a silent server is left.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(fs::read(scene.partial(&model())).unwrap(), &model().bytes[..1_000_000]);
    assert_eq!(heard.lines.borrow().last().unwrap(), "end");

    let heard = Heard::default();
    let snapshot = scene.fetch(&model(), &heard).unwrap();
    scene.assert_has(&snapshot, &model());
    assert_eq!(scene.hub.ranges(), [None, Some("bytes=1000000-".to_owned())]);
    assert_eq!(heard.lines.borrow()[0], "begin onnx/model.onnx 4000000 1000000");
}

#[test]
fn a_pause_can_be_interrupted() {
    static START: AtomicBool = AtomicBool::new(false);
    let scene = Scene::new();
    scene.hub.fail_listing([status(429, &[("Retry-After", "300")])]);
    let pace = Pace { second: Duration::from_secs(1), ..scene.settings().pace };
    let client = Hub::new(Settings { pace, ..scene.settings() }, || START.load(Ordering::Relaxed)).unwrap();
    let start = Instant::now();
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(100));
        START.store(true, Ordering::Relaxed);
    });
    assert_eq!(client.repository(NAME, "main", &Heard::default()), Err(HubError::Interrupted));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_full_disk_is_named() {
    let scene = Scene::new();
    fs::create_dir_all(scene.blobs()).unwrap();
    // Every write to this device finds no space.
    std::os::unix::fs::symlink("/dev/full", scene.partial(&model())).unwrap();
    let path = scene.partial(&model()).display().to_string();
    assert_eq!(scene.fetch(&model(), &Heard::default()), Err(HubError::DiskFull { path }));
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

    // Nobody listens there any more.
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
fn no_network_and_no_cache_is_said_at_once() {
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
fn a_branch_is_pinned_when_all_is_there() {
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
