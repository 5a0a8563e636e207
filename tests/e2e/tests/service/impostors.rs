//! Processes that listen and must not, or cannot, be used as a service. Most are fakes, whose texts choose what they do.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use e2e::{Cluster, count, drain, root, sqlstate};
use postgres::Client;
use postgres::error::SqlState;

/// A directory for a socket, and the process that listens there.
struct Fake {
    directory: PathBuf,
    process: Option<Child>,
}

impl Fake {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("pg_clip-{}-{name}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        Self { directory, process: None }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Starts a server whose sessions use this socket.
    fn cluster(&self, settings: &[&str]) -> Cluster {
        let socket = format!("clip.service_socket = '{}'", self.socket().display());
        Cluster::start_with(&[&["clip.service = on", &socket], settings].concat())
    }

    /// Starts the fake as the server's user.
    fn start(&mut self, cluster: &Cluster, options: &[&str]) {
        let owner = cluster.owner();
        chown(&self.directory, Some(owner), None).unwrap();
        if let Some(mut former) = self.process.take() {
            former.kill().ok();
            former.wait().unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
        let mut command = Command::new("python3");
        let script = std::fs::read_to_string(root().join("tests/e2e/tests/service/fake.py")).unwrap();
        command.args(["-c", &script, "--socket"]).arg(self.socket()).arg("--model-path").arg(cluster.models());
        self.process = Some(command.args(options).current_dir("/").uid(owner).spawn().unwrap());
        let begun = Instant::now();
        while !self.socket().exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the fake does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

/// Returns the SQLSTATE and the DETAIL of a failure.
fn failure(client: &mut Client, statement: &str) -> (SqlState, String) {
    let error = client.batch_execute(statement).expect_err(statement);
    let detail = error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).detail().unwrap_or_default().to_owned();
    (sqlstate(&error).clone(), detail)
}

fn embed(text: &str) -> String {
    format!("SELECT clip_embed_text('{text}', 'wide')")
}

#[test]
fn a_service_of_another_version_is_rejected() {
    let mut fake = Fake::new("version");
    let cluster = fake.cluster(&[]);
    fake.start(&cluster, &["--protocol", "2"]);
    let (mut client, heard) = cluster.listen("postgres");
    client.batch_execute(&embed("a")).unwrap();
    client.batch_execute(&embed("b")).unwrap();
    let warnings = drain(&heard);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("The service has version 9.9.9"), "{warnings:?}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 1);
    client.batch_execute("SET clip.service_fallback = off").unwrap();
    assert_eq!(failure(&mut client, &embed("c")).0, SqlState::SYSTEM_ERROR);
    let state = "SELECT state || ': ' || reason FROM clip_service";
    let state: String = client.query_one(state, &[]).unwrap().get(0);
    assert!(state.starts_with("unavailable: The service has version 9.9.9"), "{state}");
}

#[test]
fn a_socket_of_another_user_gets_no_text() {
    let fake = Fake::new("foreign");
    let cluster = fake.cluster(&["clip.service_fallback = off"]);
    let listener = UnixListener::bind(fake.socket()).unwrap();
    for path in [&fake.directory, &fake.socket()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut client = cluster.connect();
    let (code, detail) = failure(&mut client, &embed("a secret"));
    assert_eq!(code, SqlState::SYSTEM_ERROR);
    // Without root, the test and the server have the same user. Then nobody answers the greeting.
    let is_foreign =
        std::fs::metadata(fake.socket()).map(|socket| std::os::unix::fs::MetadataExt::uid(&socket)).unwrap()
            != cluster.owner();
    assert_eq!(
        detail,
        if is_foreign { "Another user of the system created its socket." } else { "It does not answer." }
    );
    client.batch_execute("SET clip.service_fallback = on").unwrap();
    client.batch_execute(&embed("a secret")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut sent = Vec::new();
    while let Ok((mut connection, _)) = listener.accept() {
        connection.set_nonblocking(true).unwrap();
        std::io::Read::read_to_end(&mut connection, &mut sent).ok();
    }
    assert!(!String::from_utf8_lossy(&sent).contains("secret"));
}

#[test]
fn answers_that_are_not_embeddings_have_an_error_or_the_fallback() {
    let mut fake = Fake::new("answers");
    let cluster = fake.cluster(&["clip.service_fallback = off"]);
    fake.start(&cluster, &[]);
    let mut client = cluster.connect();
    client.batch_execute(&embed("an embedding")).unwrap();
    let unavailable = SqlState::SYSTEM_ERROR;
    assert_eq!(failure(&mut client, &embed("decline")), (unavailable.clone(), "The test wants it.".into()));
    for damaged in ["nonsense", "index"] {
        let expected = (unavailable.clone(), "It sent an answer that is not valid.".into());
        assert_eq!(failure(&mut client, &embed(damaged)), expected, "{damaged}");
    }
    assert_eq!(failure(&mut client, &embed("strange")).0, unavailable);
    let busy = (SqlState::INSUFFICIENT_RESOURCES, "The test wants it.".into());
    assert_eq!(failure(&mut client, &embed("busy")), busy);
    // Bulk work waits for its turn.
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM clip_embed_texts('{busy}', 'wide')"), 1);
    client.batch_execute(&embed("still here")).unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    // A process that answers nothing at all is left after two attempts, and a cancel works before.
    client.batch_execute("SET statement_timeout = '200ms'").unwrap();
    let begun = Instant::now();
    assert_eq!(failure(&mut client, &embed("sleep")).0, SqlState::QUERY_CANCELED);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    client.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(failure(&mut client, &embed("sleep")).0, SqlState::EXTERNAL_ROUTINE_EXCEPTION);
    client.batch_execute(&embed("still there")).unwrap();
}

/// A session does not compute an input that may have ended the service, whatever `clip.service_fallback` is.
#[test]
fn an_input_that_ends_the_service_does_not_reach_the_session() {
    let mut fake = Fake::new("end");
    let cluster = fake.cluster(&[]);
    fake.start(&cluster, &[]);
    let mut client = cluster.connect();
    client.batch_execute(&embed("a")).unwrap();
    // Nobody starts this fake again, so the second attempt finds no service.
    assert_eq!(failure(&mut client, &embed("end")).0, SqlState::EXTERNAL_ROUTINE_EXCEPTION);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    // Later requests are computed here.
    let (mut other, heard) = cluster.listen("postgres");
    other.batch_execute(&embed("b")).unwrap();
    assert!(drain(&heard)[0].starts_with("WARNING: this session computes"));
    // A table in which one row ends the service: the others are embedded, and the row fails.
    fake.start(&cluster, &["--again"]);
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, title text);
             INSERT INTO item SELECT i, CASE WHEN i = 7 THEN 'end' ELSE 'text ' || i END FROM generate_series(1, 20) AS i;
             SELECT clip_auto_embed('item', 'title', model => 'wide', on_error => 'null')",
        )
        .unwrap();
    client.batch_execute("CALL clip_backfill('item')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), 19);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM clip_failures WHERE key ->> 'id' = '7' AND sqlstate = '38000'"),
        1
    );
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
}
