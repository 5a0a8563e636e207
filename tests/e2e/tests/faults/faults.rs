//! Faults of real machines: killed processes, replaced files, clients that vanish, clocks that jump. Committed data
//! stays, and the next statement works.

use std::fs;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use e2e::{Cluster, count, flat_png, limit, picture, pid, root, sqlstate, wait_until};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

const EMBED: &str = "SELECT vector_dims(clip_embed_text('after it all', 'emoji'))";

#[test]
fn a_kill_in_load_decode_or_inference_loses_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    client.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 100) AS i").unwrap();
    // A small file with many pixels: the decoder takes nearly all of the call.
    client.batch_execute("CREATE TABLE picture (file bytea)").unwrap();
    client.execute("INSERT INTO picture VALUES ($1)", &[&flat_png(6000, 6000)]).unwrap();
    for (step, work) in [
        ("load", "SELECT clip_unload(), clip_prewarm('emoji') FROM generate_series(1, 100000)"),
        ("decode", "SELECT clip_embed_image(file, 'narrow') FROM picture, generate_series(1, 100000)"),
        ("inference", "SELECT clip_embed_text(i::text, 'emoji') FROM generate_series(1, 10000000) AS i"),
    ] {
        for delay in [40, 170, 310] {
            let mut victim = cluster.connect();
            let number = pid(&mut victim);
            let working = thread::spawn(move || victim.batch_execute(work));
            wait_until(
                &mut client,
                &format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {number} AND state = 'active'"),
            );
            // The kill may occur at any point of the call.
            thread::sleep(Duration::from_millis(delay));
            cluster.kill(number);
            assert!(working.join().unwrap().is_err(), "{step}: it had ended already");
            client = cluster.reconnect();
            client.batch_execute(EMBED).unwrap();
            let wrong = "SELECT count(*) FROM item WHERE embedding IS NULL OR embedding <=> clip_embed_text(body, 'narrow') > 1e-6";
            assert_eq!(count(&mut client, "SELECT count(*) FROM item"), 100, "{step}");
            assert_eq!(count(&mut client, wrong), 0, "{step}");
            let prepared = "SELECT count(*) FROM clip_models WHERE prepared AND name IN ('emoji', 'narrow')";
            assert_eq!(count(&mut client, prepared), 2, "{step}");
        }
    }
}

#[test]
fn a_runtime_library_that_cannot_be_loaded_is_an_error() {
    let cluster = Cluster::start();
    let runtime = fs::read(root().join("target/onnxruntime/libonnxruntime.so")).unwrap();
    let folder = cluster.directory.join("libraries");
    fs::create_dir(&folder).unwrap();
    let part = |size: usize| runtime[..size].to_vec();
    let mut of_another_machine = runtime.clone();
    of_another_machine[18] = 0xf3;
    let size = runtime.len();
    for (name, bytes, reason) in [
        ("begun", part(100), "truncated"),
        ("first_page", part(4096), "truncated"),
        ("quarter", part(size / 4), "truncated"),
        ("most", part(size / 10 * 9), "truncated"),
        ("empty", Vec::new(), "no 64-bit ELF"),
        ("text", b"#!/bin/sh\n".repeat(1000), "no 64-bit ELF"),
        ("riscv", of_another_machine, "another kind of processor"),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        refuses(&cluster, &path, reason);
    }
    refuses(&cluster, &folder, "");
    let another = Path::new("/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join("libc.so.6");
    refuses(&cluster, &another, "OrtGetApiBase");
}

fn refuses(cluster: &Cluster, library: &Path, reason: &str) {
    let mut client = cluster.connect();
    client.batch_execute(&format!("SET clip.onnxruntime_path = '{}'", library.display())).unwrap();
    let error = client.batch_execute(EMBED).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::UNDEFINED_FILE, "{}", library.display());
    let detail = error.as_db_error().unwrap().detail().unwrap().to_owned();
    assert!(detail.contains(reason), "{}: {detail}", library.display());
    // The failed library leaves nothing behind.
    client.batch_execute("RESET clip.onnxruntime_path").unwrap();
    client.batch_execute(EMBED).unwrap();
}

#[test]
fn a_runtime_library_that_is_replaced_disturbs_nobody() {
    let cluster = Cluster::start();
    let original = root().join("target/onnxruntime/libonnxruntime.so");
    let (path, next) = (cluster.directory.join("libonnxruntime.so"), cluster.directory.join("next"));
    fs::copy(&original, &path).unwrap();
    let connect = || {
        let mut client = cluster.connect();
        client.batch_execute(&format!("SET clip.onnxruntime_path = '{}'", path.display())).unwrap();
        client
    };
    let mut before = connect();
    before.batch_execute(EMBED).unwrap();
    // The file is replaced by rename, as `make install` and package managers do it.
    fs::write(&next, b"damaged").unwrap();
    fs::rename(&next, &path).unwrap();
    before.batch_execute("SELECT clip_unload()").unwrap();
    before.batch_execute(EMBED).unwrap();
    assert_eq!(sqlstate(&connect().batch_execute(EMBED).unwrap_err()), &SqlState::UNDEFINED_FILE);
    fs::copy(&original, &next).unwrap();
    fs::rename(&next, &path).unwrap();
    connect().batch_execute(EMBED).unwrap();
    before.batch_execute(EMBED).unwrap();
}

/// Only a role that can write to a model's directory can truncate a mapped file.
#[test]
fn a_truncated_mapped_file_costs_a_restart_and_no_data() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'emoji')", &[]).unwrap();
    client.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 50) AS i").unwrap();
    let folders = fs::read_dir(cluster.models().join("emoji/prepared")).unwrap();
    let [folder] = folders.map(|folder| folder.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    let data = folder.join("text.data");
    assert_eq!(
        fs::metadata(&data).unwrap().permissions().mode() & 0o222,
        0,
        "a mistake is refused, unless root makes it"
    );
    fs::set_permissions(&data, fs::Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().write(true).open(&data).unwrap().set_len(0).unwrap();
    assert!(client.batch_execute("SELECT clip_embed_text('uncached', 'emoji')").is_err());
    let mut client = cluster.reconnect();
    // The server uses the original graph instead, and the embeddings stay the same.
    let wrong =
        "SELECT count(*) FROM item WHERE embedding IS NULL OR embedding <=> clip_embed_text(body, 'emoji') > 1e-6";
    assert_eq!(count(&mut client, wrong), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM item"), 50);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models WHERE weights = 'private'"), 1);
}

#[test]
fn a_client_that_vanishes_leaves_no_work_behind() {
    let cluster = Cluster::start_with(&["client_connection_check_interval = 100"]);
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text); INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 20000) AS i").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'emoji', create_index => false)", &[]).unwrap();
    for work in [
        "SELECT count(embedding) FROM clip_embed_texts(ARRAY(SELECT 'text ' || i FROM generate_series(1, 2000000) AS i), 'emoji')",
        "CALL clip_backfill('item', batch_size => 10)",
    ] {
        let mut stream = UnixStream::connect(cluster.directory.join(".s.PGSQL.5432")).unwrap();
        send(
            &mut stream,
            None,
            &[&196_608_u32.to_be_bytes()[..], b"user\0postgres\0database\0postgres\0application_name\0vanishing\0\0"]
                .concat(),
        );
        send(&mut stream, Some(b'Q'), &[work.as_bytes(), b"\0"].concat());
        let busy =
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'vanishing' AND state = 'active'";
        wait_until(&mut client, busy);
        if work.starts_with("CALL") {
            wait_until(&mut client, "SELECT count(embedding) > 50 FROM item");
        }
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        wait_until(&mut client, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'vanishing'");
    }
    // The embeddings of committed batches are complete. The other rows are pending.
    let wrong = "SELECT count(*) FROM item WHERE embedding <=> clip_embed_text(body, 'emoji') > 1e-6";
    assert_eq!(count(&mut client, wrong), 0);
    let embedded = count(&mut client, "SELECT count(embedding) FROM item");
    assert!(embedded > 50 && embedded < 20_000, "{embedded}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_progress"), 0);
}

/// Sends a message of the protocol.
fn send(stream: &mut UnixStream, kind: Option<u8>, body: &[u8]) {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    let kind: Vec<u8> = kind.into_iter().collect();
    std::io::Write::write_all(stream, &[&kind, &length[..], body].concat()).unwrap();
}

#[test]
fn a_clock_that_jumps_keeps_nobody_waiting() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE photo (id int PRIMARY KEY, file bytea)").unwrap();
    client.execute("SELECT clip_auto_embed('photo', 'file', model => 'wide', mode => 'queue')", &[]).unwrap();
    client.batch_execute("INSERT INTO photo VALUES (1, 'broken')").unwrap();
    wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures");
    // The failure is from before the clock was set back by a year. Its retry is due in another hour.
    client
        .batch_execute("UPDATE _clip.failures SET attempts = 7, last_failed_at = now() + interval '1 year', retry_at = now() + interval '1 year 1 hour'")
        .unwrap();
    client.batch_execute("INSERT INTO photo VALUES (2, NULL)").unwrap();
    client.execute("INSERT INTO photo VALUES (3, $1)", &[&picture("rgb_444.jpg")]).unwrap();
    wait_until(
        &mut client,
        "SELECT attempts = 8 AND last_failed_at < now() AND retry_at < now() + interval '2 hours' FROM clip_failures",
    );
    // The same holds for a column whose model was missing.
    let (model, away) = (cluster.models().join("wide"), cluster.models().join(".wide"));
    fs::rename(&model, &away).unwrap();
    client.execute("INSERT INTO photo VALUES (4, $1)", &[&picture("rgb_444.jpg")]).unwrap();
    wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL");
    client
        .batch_execute("UPDATE _clip.failures SET last_failed_at = now() + interval '1 year', retry_at = now() + interval '1 year 1 hour' WHERE key = 'null'")
        .unwrap();
    fs::rename(&away, &model).unwrap();
    wait_until(&mut client, "SELECT embedding IS NOT NULL FROM photo WHERE id = 4");
    // Progress that began in the future has no rate and raises no error.
    client.batch_execute("UPDATE _clip.activity SET started_at = now() + interval '1 year'").unwrap();
    client.batch_execute("SELECT * FROM clip_progress; SELECT * FROM clip_auto_embed_status").unwrap();
}

/// In a connection pool, each transaction may belong to another client.
#[test]
fn pooled_sessions_use_the_settings_of_their_client() {
    let cluster = Cluster::start();
    let mut client = cluster.config("postgres").connect(NoTls).unwrap();
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("SET LOCAL clip.default_model = 'narrow'").unwrap();
    let dimensions: i32 = transaction.query_one("SELECT vector_dims(clip_embed_text('a'))", &[]).unwrap().get(0);
    assert_eq!(dimensions, 32);
    transaction.commit().unwrap();
    client.batch_execute("SET clip.default_model = 'wide'").unwrap();
    client.batch_execute("DISCARD ALL").unwrap();
    let dimensions: i32 = client.query_one("SELECT vector_dims(clip_embed_text('a'))", &[]).unwrap().get(0);
    assert_eq!(dimensions, 128);
}

#[test]
fn without_threads_or_files_embedding_works_or_raises_an_error() {
    let cluster = Cluster::start();
    let embed = |client: &mut Client| -> Result<String, postgres::Error> {
        let query = "SELECT string_agg(embedding::text, '' ORDER BY ordinality) FROM clip_embed_images(array_fill($1::bytea, ARRAY[8]), 'emoji')";
        Ok(client.query_one(query, &[&picture("rgb_444.jpg")])?.get(0))
    };
    let mut client = cluster.connect();
    let expected = embed(&mut client).unwrap();
    for threads in [1, 4] {
        let mut client = cluster.connect();
        client.batch_execute(&format!("SET clip.threads = {threads}")).unwrap();
        // Threads count as processes of the user, who already has some.
        limit(pid(&mut client), "nproc", "1");
        assert_eq!(embed(&mut client).unwrap(), expected, "{threads} threads");
    }
    let mut client = cluster.connect();
    client.batch_execute("LOAD 'pg_clip'").unwrap();
    limit(pid(&mut client), "nofile", "3");
    // One of the errors comes from the server's own code, if that code is the first to open a file.
    let refusals = [&SqlState::UNDEFINED_FILE, &SqlState::INSUFFICIENT_RESOURCES];
    assert!(refusals.contains(&sqlstate(&embed(&mut client).unwrap_err())));
    limit(pid(&mut client), "nofile", "1000");
    assert_eq!(embed(&mut client).unwrap(), expected);
    cluster.assert_no_crash();
}
