//! The common parts of the end-to-end tests: servers, queries, limits, images.

mod cluster;
mod files;
mod installation;
mod slow_model;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;

pub use cluster::Cluster;
pub use files::{files_below, pages_below};
pub use installation::Installation;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns the directory of real files that are not part of the project. If it is missing, tests print that they skip
/// them.
pub fn shared_data() -> Option<PathBuf> {
    let data = root().join("../shared/data");
    if !data.exists() {
        println!("left out: the reference data is not here");
        return None;
    }
    Some(data)
}

/// Returns the schema of both extensions, if PG_CLIP_TEST_SCHEMA names one. Only superusers can use that schema, and
/// their search_path contains it. By default, the extensions are in public.
pub fn schema() -> Option<String> {
    std::env::var("PG_CLIP_TEST_SCHEMA").ok().filter(|name| !name.is_empty())
}

/// Returns the settings that let the embedding service compute for all sessions, if PG_CLIP_TEST_SERVICE is set. Then sessions do not
/// compute themselves.
fn served() -> &'static [&'static str] {
    match std::env::var_os("PG_CLIP_TEST_SERVICE") {
        Some(_) => &["shared_preload_libraries = 'pg_clip'", "clip.service = on", "clip.service_fallback = off"],
        None => &[],
    }
}

/// Returns the schema of the extension.
pub fn home() -> String {
    schema().unwrap_or_else(|| "public".into())
}

/// Returns the statements that create both extensions in a database of superusers and tests.
pub fn create_extension() -> String {
    match schema() {
        None => "CREATE EXTENSION pg_clip CASCADE".into(),
        Some(schema) => format!(
            "CREATE SCHEMA {schema};
             CREATE EXTENSION vector SCHEMA {schema}; CREATE EXTENSION pg_clip SCHEMA {schema};
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = \"$user\", public, {schema}', current_database()); END $$;
             SET search_path = \"$user\", public, {schema}"
        ),
    }
}

/// Allows roles to call the extension's functions, as all roles can if the extension is in public.
pub fn let_call(client: &mut Client, roles: &str) {
    if let Some(schema) = schema() {
        client.batch_execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {roles}")).unwrap();
    }
}

/// Returns the messages that a session received since the last call.
pub fn drain(heard: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut heard.lock().unwrap())
}

/// Returns the single number of a query's result.
pub fn count(client: &mut Client, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap().get(0)
}

/// Creates an extension type whose operators are outside pg_catalog. Some servers do not have the extension.
pub fn create_citext(client: &mut Client) {
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'";
    let word = if count(client, available) == 1 { "CREATE EXTENSION citext" } else { "CREATE DOMAIN citext AS text" };
    client.batch_execute(word).unwrap();
}

/// Returns the server process of a connection.
pub fn pid(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0)
}

/// Repeats a query until it returns true.
pub fn wait_until(client: &mut Client, question: &str) {
    let begun = Instant::now();
    while !client.query_one(question, &[]).unwrap().get::<_, bool>(0) {
        assert!(begun.elapsed() < Duration::from_secs(180), "in vain: {question}\n{}", state(client));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the state that a failed test shows.
fn state(client: &mut Client) -> String {
    let status = "SELECT s::text FROM clip_auto_embed_status AS s UNION ALL SELECT f::text FROM clip_failures AS f \
        UNION ALL SELECT concat_ws(' ', pid, state, query) FROM pg_stat_activity WHERE backend_type LIKE 'pg_clip%'";
    let rows = client.query(status, &[]).unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

/// Runs the SQL specification in tests/pg_regress with PostgreSQL's own pg_regress, on a server with these settings.
pub fn specification(settings: &[&str]) {
    let cluster = Cluster::start_with(settings);
    std::fs::create_dir(cluster.models().join("broken")).unwrap();
    let tests = root().join("tests/pg_regress");
    // The order matters: `surface` drops and creates the extension.
    let names = [
        "text",
        "image",
        "batch",
        "errors",
        "settings",
        "privileges",
        "auto_embed",
        "halfvec",
        "indexes",
        "zero_shot",
        "search",
        "surface",
    ];
    let written = std::fs::read_dir(tests.join("sql")).unwrap().count();
    assert_eq!(names.len(), written, "a file of tests/pg_regress/sql is not run");
    // `make one SQL=errors` runs one file.
    let one = std::env::var("PG_CLIP_SQL").ok();
    let names: Vec<_> = names.into_iter().filter(|name| one.as_ref().is_none_or(|one| one == name)).collect();
    assert!(!names.is_empty(), "there is no tests/pg_regress/sql/{}.sql", one.unwrap_or_default());
    let output = Command::new(pg_config("--pgxs").replace("makefiles/pgxs.mk", "test/regress/pg_regress"))
        .args(["--use-existing", "--dbname=postgres", "--user=postgres"])
        .arg(format!("--host={}", cluster.directory.display()))
        .arg(format!("--bindir={}", pg_config("--bindir")))
        .arg(format!("--inputdir={}", tests.display()))
        .arg(format!("--outputdir={}", cluster.directory.display()))
        .args(names)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let differences = std::fs::read_to_string(cluster.directory.join("regression.diffs")).unwrap_or_default();
    if let Some(folder) = std::env::var_os("PG_CLIP_KEEP_RESULTS") {
        let results = cluster.directory.join("results");
        run(Command::new("cp").arg("-r").arg(results).arg(folder));
    }
    assert!(output.status.success(), "{differences}{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns an answer of the server's pg_config.
pub fn pg_config(option: &str) -> String {
    let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
    answer_of(Path::new(&pg_config), option)
}

fn answer_of(pg_config: &Path, option: &str) -> String {
    let output = Command::new(pg_config).arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a command that must succeed.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) {
    let command = command.borrow_mut();
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&text));
}

/// Returns the SQLSTATE of a failure that the server reported. A broken connection has none.
pub fn sqlstate(error: &postgres::Error) -> &SqlState {
    error.code().unwrap_or_else(|| panic!("the connection broke: {error}"))
}

/// Returns the SQLSTATE of failed statements, or `None` if they succeed.
pub fn code(client: &mut Client, statements: &str) -> Option<SqlState> {
    client.batch_execute(statements).err().map(|error| sqlstate(&error).clone())
}

/// Allows a process that many megabytes more address space than it has now. `None` removes the limit.
pub fn limit_memory(pid: i32, megabytes: Option<u64>) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    let size = size.parse::<u64>().unwrap() * 1024;
    limit(pid, "as", &megabytes.map_or("unlimited".into(), |megabytes| (size + megabytes * 1024 * 1024).to_string()));
}

/// Limits a resource of a process. `resource` is prlimit's name for it.
pub fn limit(pid: i32, resource: &str, most: &str) {
    // Only the owner of a process can limit it. If root runs the tests, that is the server's own user.
    let process = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    let mut command = Command::new("prlimit");
    command.uid(process.uid()).gid(process.gid());
    run(command.args([&format!("--{resource}={most}:"), "--pid", &pid.to_string()]));
}

/// Returns a fixture image.
pub fn picture(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/images").join(name)).unwrap()
}

/// Returns a gray image. All its rows are the same, so its file is small.
pub fn flat_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![128; width as usize * height as usize * 3]).unwrap();
    writer.finish().unwrap();
    bytes
}
