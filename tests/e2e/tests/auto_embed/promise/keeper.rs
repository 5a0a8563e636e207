//! Concurrent work besides the writers: changes of models, backfills, retries, and kills of all kinds.

use std::time::{Duration, Instant};

use e2e::Cluster;
use postgres::{Client, Error};

use crate::Run;
use crate::random::Random;
use crate::tables::TABLES;

/// Backfills also run in sessions that format values differently.
const OTHERWISE: &str = "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Shanghai'; SET extra_float_digits = 0";

/// Runs statements of a table's owner, one after the other.
fn keep(run: &Run, what: &str, mut next: impl FnMut(&mut Client) -> (String, Result<(), Error>)) {
    let mut client = run.connect(&run.owner, OTHERWISE);
    while run.goes_on() {
        let (statement, done) = next(&mut client);
        match done {
            Ok(()) => run.count(what),
            Err(error) => {
                run.judge(what, &statement, &error);
                if client.is_closed() {
                    client = run.connect(&run.owner, OTHERWISE);
                }
            }
        }
    }
}

fn run_one(client: &mut Client, statement: String) -> (String, Result<(), Error>) {
    let done = client.batch_execute(&statement);
    (statement, done)
}

pub fn change_models(run: &Run, mut random: Random) {
    keep(run, "changes of model", |client| {
        let name = TABLES[random.below(TABLES.len())].name;
        let model = random.pick(&["narrow", "wide"]);
        run_one(client, format!("CALL clip_reembed('{name}', 'embedding', '{model}', {})", random.pick(&[1, 7, 64])))
    });
}

/// Changes the mode of tables during writes. Then the rows without an embedding are pending.
pub fn change_modes(run: &Run, mut random: Random) {
    keep(run, "changes of mode", |client| {
        std::thread::sleep(Duration::from_millis(500));
        let table = &TABLES[random.below(TABLES.len())];
        let mode = random.pick(&["row", "statement", "queue", table.mode]);
        let on_error = match (table.is_tolerant(), mode) {
            (false, _) => "error",
            (true, "queue") => "skip",
            (true, _) => "null",
        };
        let statement =
            format!("SELECT clip_auto_embed('{}', 'body', mode => '{mode}', on_error => '{on_error}')", table.name);
        run.modes.lock().unwrap().remove(table.name);
        let done = run_one(client, statement);
        if done.1.is_ok() {
            run.modes.lock().unwrap().insert(table.name, mode);
        }
        done
    });
}

pub fn fill(run: &Run, mut random: Random) {
    keep(run, "backfills", |client| {
        std::thread::sleep(Duration::from_millis(20));
        let name = TABLES[random.below(TABLES.len())].name;
        let batch = random.pick(&[1, 3, 64]);
        let statement = match random.below(8) {
            0 => format!("SELECT clip_retry('{name}')"),
            1 | 2 => format!("SELECT clip_backfill_batch('{name}', batch_size => {batch})"),
            _ => format!("CALL clip_backfill('{name}', batch_size => {batch})"),
        };
        run_one(client, statement)
    });
}

/// Kills workers, cancels statements, closes connections, and crashes the server once.
pub fn disturb(run: &Run, cluster: &Cluster, mut random: Random, crash_at: Instant) {
    let mut client = run.connect(&run.superuser, "");
    let mut has_crashed = false;
    while run.goes_on() {
        std::thread::sleep(Duration::from_millis(100 + random.below(500) as u64));
        let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' LIMIT 1";
        let others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'check'";
        if !has_crashed && Instant::now() > crash_at {
            if let Some(row) = client.query_opt(worker, &[]).unwrap() {
                cluster.kill(row.get(0));
                has_crashed = true;
                run.count("crashes");
                client = run.connect(&run.superuser, "");
            }
            continue;
        }
        let statement = match random.below(6) {
            0..3 => {
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'".into()
            }
            3 => format!("SELECT pg_cancel_backend(pid) {others} ORDER BY random() LIMIT 1"),
            4 => format!("SELECT pg_terminate_backend(pid) {others} ORDER BY random() LIMIT 1"),
            _ => format!("VACUUM (ANALYZE) {}", TABLES[random.below(TABLES.len())].name),
        };
        match client.batch_execute(&statement) {
            Ok(()) => run.count(if statement.contains("'pg_clip worker'") { "workers killed" } else { "disturbances" }),
            Err(error) => run.judge("disturbance", &statement, &error),
        }
    }
}
