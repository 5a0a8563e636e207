//! An upgrade of a running server: its files are replaced by a rename, as `make install` does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::{Cluster, Installation, count, drain, root, wait_until};

use super::{Over, another, running, signal};

const SESSIONS: i64 = 4;

/// Replaces an installed file.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, file).unwrap();
}

/// Embeds until the end. Each statement must succeed. Returns the number of rows.
fn work(cluster: &Cluster, number: i64, is_over: &AtomicBool) -> i64 {
    let mut client = cluster.connect();
    let pid = e2e::pid(&mut client);
    let mut done = 0;
    while !is_over.load(Ordering::Relaxed) {
        let id = done * SESSIONS + number;
        client
            .batch_execute(&format!(
                "INSERT INTO item VALUES ({id}, 'text {id}'); SELECT * FROM clip_search('item', 'query {id}', 3)"
            ))
            .unwrap();
        done += 1;
    }
    assert_eq!(e2e::pid(&mut client), pid);
    done
}

/// A service of a later version.
fn later_version() -> String {
    let fake = fs::read_to_string(root().join("tests/e2e/tests/service/fake.py")).unwrap();
    let (earlier, later) = (r#""--protocol", type=int, default=1"#, r#""--protocol", type=int, default=1000"#);
    assert!(fake.contains(earlier));
    format!("#!/usr/bin/env python3\n{}", fake.replace(earlier, later))
}

#[test]
fn files_are_replaced_while_the_service_runs() {
    let installation = Installation::copy();
    let (command, library) = (installation.bin.join("pgclip"), installation.libraries.join("pg_clip.so"));
    let [same_command, same_library] = [&command, &library].map(|file| fs::read(file).unwrap());
    fs::copy(&command, command.with_extension("same")).unwrap();
    let settings = ["shared_preload_libraries = 'pg_clip'", "clip.service = on"];
    let cluster = Arc::new(Cluster::start_of(installation.pg_config(), &settings));
    let mut client = cluster.connect();
    let first = running(&mut client);
    // The new command shows that it was started.
    let started = cluster.directory.join("started");
    let new_command = format!("#!/bin/sh\n: >'{}'\nexec \"$0.same\" \"$@\"\n", started.display());
    client
        .batch_execute(
            "CREATE TABLE item (id bigint PRIMARY KEY, title text); SELECT clip_auto_embed('item', 'title', model => 'wide')",
        )
        .unwrap();

    // New files with the same protocol, under load.
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Over(is_over.clone());
    let workers = (0..SESSIONS).map(|number| {
        let (cluster, is_over) = (cluster.clone(), is_over.clone());
        thread::spawn(move || work(&cluster, number, &is_over))
    });
    let workers: Vec<_> = workers.collect();
    let more = |client: &mut _, rows| {
        let now = count(client, "SELECT count(*) FROM item");
        wait_until(client, &format!("SELECT count(*) > {} FROM item", now + rows));
    };
    more(&mut client, 20);
    replace(&library, &same_library);
    replace(&command, new_command.as_bytes());
    more(&mut client, 20);
    assert_eq!(running(&mut client), first);
    cluster.connect().batch_execute("SELECT clip_embed_text('a new session', 'wide')").unwrap();
    assert!(!started.exists(), "the former service did not stay");
    signal(first, "KILL");
    let (second, _) = another(&mut client, first);
    assert!(started.exists(), "the new command was not started");
    more(&mut client, 20);
    drop(over);
    let rows: i64 = workers.into_iter().map(|worker| worker.join().expect("a statement was lost")).sum();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), rows);
    assert_eq!(count(&mut client, "SELECT restarts FROM clip_service"), 1);

    // A new command with another protocol, and sessions with the former library.
    let (mut earlier, heard) = cluster.listen("postgres");
    earlier.batch_execute("SELECT clip_embed_text('before', 'wide')").unwrap();
    assert_eq!(drain(&heard), Vec::<String>::new());
    replace(&command, later_version().as_bytes());
    assert_eq!(running(&mut client), second);
    signal(second, "TERM");
    wait_until(&mut client, "SELECT coalesce(reason LIKE 'The service has version 9.9.9%', false) FROM clip_service");
    let (mut later, also_heard) = cluster.listen("postgres");
    for number in 0..10 {
        for session in [&mut earlier, &mut later] {
            let text = format!("INSERT INTO item VALUES (-1 - (SELECT count(*) FROM item), 'upgrade {number}')");
            session.batch_execute(&text).unwrap();
        }
    }
    for warnings in [drain(&heard), drain(&also_heard)] {
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("The service has version 9.9.9"), "{warnings:?}");
    }
    let all = "SELECT count(*) = count(embedding) AND count(*) = $1 FROM item";
    assert!(client.query_one(all, &[&(rows + 20)]).unwrap().get::<_, bool>(0));

    // The end of the upgrade: the server starts again with a library and a command that match.
    replace(&command, &same_command);
    drop((client, earlier, later));
    cluster.restart();
    let (mut client, heard) = cluster.listen("postgres");
    running(&mut client);
    client.batch_execute("SELECT clip_embed_text('after', 'wide')").unwrap();
    assert_eq!(drain(&heard), Vec::<String>::new());
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    let wrong = "SELECT count(*) FROM item WHERE (embedding <=> clip_embed_text(title, 'wide') < 1e-5) IS NOT TRUE";
    assert_eq!(count(&mut client, wrong), 0);
}
