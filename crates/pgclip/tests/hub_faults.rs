//! The client of the hub with broken connections, failing servers and wrong bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod loopback;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loopback::Fault;
use loopback::scene::{Heard, MODEL, NAME, Scene, config, listed, model, status};
use pgclip::hub::{Hub, HubError, Settings, Timeouts};

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
fn a_silent_server_is_abandoned() {
    let scene = Scene::new();
    let repository = scene.repository();
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..scene.settings().timeouts };
    let client = Hub::new(Settings { timeouts, ..scene.settings() }, || false).unwrap();
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
    assert_eq!(scene.hub.ranges(), [None, Some("bytes=1000000-".to_owned())]);
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
    // The limit is far below the 30 s after which the client abandons a silent server.
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
    let timeouts = Timeouts { second: Duration::from_secs(1), ..scene.settings().timeouts };
    let client = Hub::new(Settings { timeouts, ..scene.settings() }, || START.load(Ordering::Relaxed)).unwrap();
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
    // Every write to this device fails for lack of space.
    std::os::unix::fs::symlink("/dev/full", scene.partial(&model())).unwrap();
    let path = scene.partial(&model()).display().to_string();
    assert_eq!(scene.fetch(&model(), &Heard::default()), Err(HubError::DiskFull { path }));
}
