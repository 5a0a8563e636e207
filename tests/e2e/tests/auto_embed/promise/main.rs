//! Tests the first promise under all conditions at once: an embedding belongs to the source in its row, or is NULL.
//!
//!  Clients write in all ways during backfills, retries and re-embeddings. The test kills workers and crashes the
//! server. PG_CLIP_SEED, which the test prints, determines the random choices, but not the order in which the clients
//! meet. PG_CLIP_SECONDS is the duration.

mod check;
mod keeper;
mod random;
mod settings;
mod tables;
mod writer;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::Cluster;
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use random::Random;
use tables::{OWNER, TABLES, TIDY, WRITER};

const SERVER: [&str; 8] = [
    "shared_preload_libraries = 'pg_clip'",
    "clip.max_workers = 2",
    "clip.worker_naptime = '2s'",
    "max_worker_processes = 16",
    "max_connections = 40",
    "deadlock_timeout = '100ms'",
    "log_error_verbosity = verbose",
    "log_line_prefix = '%m [%p] %b '",
];

const WRITERS: u64 = 6;

/// The state of the run that all threads share.
pub struct Run {
    seed: u64,
    superuser: Config,
    owner: Config,
    writer: Config,
    stops: AtomicBool,
    findings: Mutex<Vec<String>>,
    /// The number of times that each kind of work was done and each error occurred.
    counts: Mutex<BTreeMap<String, u64>>,
    /// The last mode of each table, if it is known.
    modes: Mutex<BTreeMap<&'static str, &'static str>>,
}

impl Run {
    pub fn goes_on(&self) -> bool {
        !self.stops.load(Ordering::Relaxed)
    }

    /// Records a violation and ends the run.
    pub fn found(&self, finding: String) {
        eprintln!("{finding}");
        self.findings.lock().unwrap().push(finding);
        self.stops.store(true, Ordering::Relaxed);
    }

    pub fn count(&self, what: &str) {
        *self.counts.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// Connects with these settings. Waits if the server is still starting.
    pub fn connect(&self, config: &Config, settings: &str) -> Client {
        let begun = Instant::now();
        loop {
            let connected = config.connect(NoTls).and_then(|mut client| {
                client.batch_execute("SET statement_timeout = '100s'")?;
                client.batch_execute(settings).map(|()| client)
            });
            match connected {
                Ok(client) => return client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Counts an error of a client's statement, and records a violation if the error is not allowed. Allowed are
    /// conflicts between clients, and errors that this test itself causes. The check of the server's log covers broken
    /// connections.
    pub fn judge(&self, who: &str, statement: &str, error: &postgres::Error) {
        let Some(database) = error.as_db_error() else { return self.count("connections that broke") };
        self.count(&format!("errors {}", database.code().code()));
        let ours = match database.code() {
            &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::UNIQUE_VIOLATION
            | &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN => false,
            &SqlState::QUERY_CANCELED => !database.message().contains("user request"),
            // The embedding is from the former model, which has other dimensions.
            &SqlState::DATA_EXCEPTION => !(statement.contains("'[") && database.message().contains("dimensions, not")),
            &SqlState::TRIGGERED_DATA_CHANGE_VIOLATION => {
                !TABLES.iter().any(|table| table.may_refuse() && statement.contains(table.name))
            }
            _ => true,
        };
        if ours {
            self.found(format!(
                "{who}: {}: {}\nDETAIL {:?}\nHINT {:?}\nWHERE {:?}\n{statement}",
                database.code().code(),
                database.message(),
                database.detail(),
                database.hint(),
                database.where_(),
            ));
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn every_vector_belongs_to_the_source_of_its_row() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let seed = number_of("PG_CLIP_SEED").unwrap_or_else(now);
    let seconds = number_of("PG_CLIP_SECONDS").unwrap_or(60);
    println!("PG_CLIP_SEED={seed} PG_CLIP_SECONDS={seconds}");
    let cluster = Cluster::start_with(&SERVER);
    let mut client = cluster.connect();
    client.batch_execute(&format!("CREATE ROLE {OWNER} LOGIN; CREATE ROLE {WRITER} LOGIN")).unwrap();
    client.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {OWNER}")).unwrap();
    client.batch_execute(TIDY).unwrap();
    client.batch_execute(&tables::create_generated()).unwrap();
    for table in TABLES {
        client.batch_execute(&table.create()).unwrap();
        let attach = format!(
            "SELECT clip_auto_embed('{}', 'body', model => 'narrow', mode => '{}', on_error => '{}', type => '{}')",
            table.name,
            table.mode,
            table.on_error,
            table.target()
        );
        client.batch_execute(&attach).unwrap();
    }
    let run = Run {
        seed,
        superuser: cluster.config("postgres"),
        // A role without rights on the schema cannot call our functions, but a worker still acts for that role.
        owner: cluster.config(if e2e::schema().is_some() { "postgres" } else { OWNER }),
        writer: cluster.config(WRITER),
        stops: AtomicBool::new(false),
        findings: Mutex::new(Vec::new()),
        counts: Mutex::default(),
        modes: Mutex::new(TABLES.iter().map(|table| (table.name, table.mode)).collect()),
    };
    let begun = Instant::now();
    let crash_at = Duration::from_secs(seconds / 2);
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let run = &run;
            scope.spawn(move || writer::write(run, number));
        }
        scope.spawn(|| keeper::change_models(&run, Random::new(seed, 100)));
        scope.spawn(|| keeper::change_modes(&run, Random::new(seed, 103)));
        scope.spawn(|| keeper::fill(&run, Random::new(seed, 101)));
        scope.spawn(|| keeper::disturb(&run, &cluster, Random::new(seed, 102), begun + crash_at));
        scope.spawn(|| check::while_running(&run));
        while run.goes_on() && begun.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(100));
        }
        run.stops.store(true, Ordering::Relaxed);
    });
    let mut client = cluster.reconnect();
    if run.findings.lock().unwrap().is_empty() {
        check::at_the_end(&run, &mut client);
    }
    check::log(&run, &cluster);
    let counts = run.counts.into_inner().unwrap();
    println!("{counts:?}");
    let findings = run.findings.into_inner().unwrap();
    assert!(findings.is_empty(), "PG_CLIP_SEED={seed}\n{}", findings.join("\n\n"));
    for what in check::EXPECTED {
        assert!(counts.contains_key(what) || seconds < 60, "never done: {what}");
    }
}
