//! Conditions that must hold at any time and at the end.

use std::time::{Duration, Instant};

use e2e::Cluster;
use postgres::{Client, Error};

use crate::Run;
use crate::tables::{TABLES, Table};

/// A run of a minute must do each of these, or the test proves nothing.
pub const EXPECTED: [&str; 11] = [
    "changes of model",
    "changes of mode",
    "backfills",
    "commits",
    "rollbacks to a savepoint",
    "COPY",
    "workers killed",
    "checks",
    "generated",
    "crashes",
    // The error of a trigger that completes the source after the embedding.
    "errors 27000",
];

/// Returns the rows whose embedding is not that of their source. The columns of the table do not change during the
/// check.
fn wrong(client: &mut Client, table: &Table) -> Result<Vec<String>, Error> {
    let name = table.name;
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!("LOCK TABLE {name} IN ACCESS SHARE MODE"))?;
    let columns = format!("SELECT target::text, model FROM _clip.columns WHERE relation = '{name}'::regclass");
    let mut found = Vec::new();
    for column in transaction.query(&columns, &[])? {
        let (target, model): (&str, &str) = (column.get(0), column.get(1));
        let embedded = match table.is_picture() {
            true => format!("clip_embed_image(t.body, '{model}')"),
            false => format!("clip_embed_text(t.body, '{model}')"),
        };
        let query = format!(
            "SELECT concat_ws(' ', t.tableoid::regclass, {}, left(t.body::text, 100), t.note, t.xmin, distance) FROM {name} AS t, \
             LATERAL (SELECT CASE WHEN {} THEN t.{target}::vector <=> {embedded} END AS distance) AS d \
             WHERE t.{target} IS NOT NULL AND (distance <= 1e-4) IS NOT TRUE",
            table.key_list(),
            table.is_embeddable()
        );
        for row in transaction.query(&query, &[])? {
            found.push(format!("{name}.{target} of {model}: {}", row.get::<_, &str>(0)));
        }
    }
    transaction.commit()?;
    Ok(found)
}

pub fn while_running(run: &Run) {
    let mut client = run.connect(&run.superuser, "SET application_name = 'check'");
    while run.goes_on() {
        for table in &TABLES {
            match wrong(&mut client, table) {
                Ok(found) if found.is_empty() => run.count("checks"),
                Ok(found) => run.found(format!("wrong vectors, while writing:\n{}", found.join("\n"))),
                Err(error) => {
                    run.judge("check", table.name, &error);
                    if client.is_closed() {
                        client = run.connect(&run.superuser, "SET application_name = 'check'");
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Checks that nothing is lost: each source that can be embedded has its embedding, and every other source is among the
/// failures.
pub fn at_the_end(run: &Run, client: &mut Client) {
    for table in &TABLES {
        let name = table.name;
        let begun = Instant::now();
        let lacking =
            format!("SELECT count(*) FROM {name} AS t WHERE t.embedding IS NULL AND {}", table.is_embeddable());
        // The modes have changed during the run.
        let is_queue = format!(
            "SELECT mode = 'queue' FROM _clip.columns WHERE relation = '{name}'::regclass AND target = 'embedding'"
        );
        if !client.query_one(&is_queue, &[]).unwrap().get::<_, bool>(0) {
            client.batch_execute(&format!("CALL clip_backfill('{name}')")).unwrap();
        }
        while e2e::count(client, &lacking) > 0 {
            if begun.elapsed() > Duration::from_secs(90) {
                let status = "SELECT concat_ws(' ', relation, key, sqlstate, message, retry_at) FROM clip_failures";
                let failures: Vec<String> = client.query(status, &[]).unwrap().iter().map(|row| row.get(0)).collect();
                run.found(format!("{name}: rows lack their vector\n{}", failures.join("\n")));
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        client.batch_execute(&format!("CALL clip_backfill('{name}')")).unwrap();
        match wrong(client, table) {
            Ok(found) if found.is_empty() => (),
            Ok(found) => run.found(format!("wrong vectors:\n{}", found.join("\n"))),
            Err(error) => run.judge("check", name, &error),
        }
        let state = format!(
            "SELECT mode, mode = 'queue' AND _clip_pending_index(relation, source, target) IS NULL FROM _clip.columns \
             WHERE relation = '{name}'::regclass AND target = 'embedding'"
        );
        let state = client.query_one(&state, &[]).unwrap();
        let (mode, lacks_index) = (state.get::<_, &str>(0), state.get::<_, bool>(1));
        if run.modes.lock().unwrap().get(name).is_some_and(|given| *given != mode) || lacks_index {
            run.found(format!("{name}: its mode is {mode}, which is not the last that it was given, or has no index"));
        }
        let broken = format!("SELECT count(*) FROM {name} AS t WHERE t.body IS NOT NULL AND t.embedding IS NULL");
        let failures = format!(
            "SELECT count(*) FROM clip_failures WHERE relation = '{name}'::regclass::text AND target = 'embedding'"
        );
        let (broken, failures) = (e2e::count(client, &broken), e2e::count(client, &failures));
        if broken != failures {
            run.found(format!("{name}: {broken} rows cannot be embedded, and {failures} failures are noted"));
        }
    }
}

/// Checks the log: the server and the workers report only errors that clients may also get.
pub fn log(run: &Run, cluster: &Cluster) {
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    let crashes = log.lines().filter(|line| line.contains("terminating any other active server processes")).count();
    if crashes > 1 {
        run.found(format!("the server crashed {crashes} times, of which the test caused one"));
    }
    let is_ours = |line: &&str| ["ERROR:  XX", "PANIC:", "pg_clip: could not"].iter().any(|words| line.contains(words));
    let may_be = ["deadlock detected", "terminating connection because of crash", "due to administrator command"];
    for line in log.lines().filter(is_ours) {
        if !may_be.iter().any(|words| line.contains(words)) {
            run.found(format!("the server's log: {line}"));
        }
    }
}
