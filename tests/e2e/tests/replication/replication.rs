//! Standbys, promotion, recovery to a point in time, and subscribers: embeddings are data, and replicate without a
//! model.

use e2e::{Cluster, run, sqlstate, wait_until};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

/// Returns all embeddings of a table, as one text.
fn vectors(client: &mut Client, table: &str) -> String {
    let sum = format!("SELECT count(embedding) || md5(string_agg(embedding::text, ',' ORDER BY id)) FROM {table}");
    client.query_one(&sum, &[]).unwrap().get(0)
}

fn ids(client: &mut Client, query: &str) -> Vec<i32> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn conninfo(cluster: &Cluster) -> String {
    format!("host={} port=5432 user=postgres", cluster.directory.display())
}

fn standby(primary: &Cluster, settings: &[&str]) -> Cluster {
    let primary_conninfo = format!("primary_conninfo = '{}'", conninfo(primary));
    let settings: Vec<&str> = [primary_conninfo.as_str()].into_iter().chain(settings.iter().copied()).collect();
    let standby = primary.backup("standby", &settings);
    standby.restart();
    standby
}

/// Waits until the standby has everything that the primary has written so far.
fn catch_up(primary: &mut Client, standby: &mut Client) {
    let written: String = primary.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).unwrap().get(0);
    wait_until(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"));
}

const SEARCH: &str = "SELECT id FROM item ORDER BY embedding <=> (SELECT clip_embed_text('text 17', 'wide')) LIMIT 5";

fn table_with_index(client: &mut Client) {
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'wide')", &[]).unwrap();
    client.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 200) AS i").unwrap();
}

#[test]
fn a_standby_searches_by_words_and_goes_on_as_the_primary() {
    let primary = Cluster::start_with(&["shared_preload_libraries = 'pg_clip'", "clip.worker_naptime = 1"]);
    let mut origin = primary.connect();
    table_with_index(&mut origin);
    // Writes rows that would need an embedding.
    origin
        .batch_execute("CREATE TABLE bare (id int PRIMARY KEY, body text); INSERT INTO bare VALUES (1, 'a')")
        .unwrap();
    origin.execute("SELECT clip_auto_embed('bare', 'body', model => 'narrow')", &[]).unwrap();
    origin.batch_execute("CREATE TABLE other (id int PRIMARY KEY, body text)").unwrap();
    let standby = standby(&primary, &[]);
    let mut copy = standby.connect();
    origin.batch_execute("INSERT INTO item VALUES (201, 'after the backup')").unwrap();
    catch_up(&mut origin, &mut copy);
    assert_eq!(vectors(&mut copy, "item"), vectors(&mut origin, "item"));
    copy.batch_execute("SET enable_seqscan = off").unwrap();
    origin.batch_execute("SET enable_seqscan = off").unwrap();
    let plan: Vec<String> =
        copy.query(&format!("EXPLAIN {SEARCH}"), &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Index Scan using item_embedding_idx")), "{plan:?}");
    let found = ids(&mut copy, SEARCH);
    assert_eq!(found[0], 17);
    assert_eq!(found, ids(&mut origin, SEARCH));
    for search in [
        "SELECT key::int FROM clip_search('item', 'text 17', 5, filter => 'id <= 100') ORDER BY distance",
        "SELECT key::int FROM clip_search('item', 'text 17', 5, exclude => '[17]', per => 'id', per_size => 2) ORDER BY rank",
        "SELECT key::int FROM clip_search('item', 'text 17', 5, min_relevance => 1) ORDER BY rank",
    ] {
        assert_eq!(ids(&mut copy, search), ids(&mut origin, search), "{search}");
    }
    assert_eq!(ids(&mut copy, "SELECT queries FROM clip_index_recall('item', sample => 5, ef_search => '{40}')"), [5]);
    assert_eq!(ids(&mut copy, "SELECT count(*)::int FROM clip_near_duplicates('item', filter => 'id = 201')"), [0]);

    // Functions that write raise an error, and functions that only read work.
    for writes in [
        "SELECT clip_auto_embed('other', 'body')",
        "CALL clip_backfill('bare')",
        "SELECT clip_backfill_batch('bare')",
        "SELECT clip_retry('bare')",
    ] {
        let error = copy.batch_execute(writes).expect_err(writes);
        assert_eq!(sqlstate(&error), &SqlState::READ_ONLY_SQL_TRANSACTION, "{writes}");
    }
    for view in ["clip_models", "clip_loaded_models", "clip_auto_embed_status", "clip_progress", "clip_failures"] {
        copy.batch_execute(&format!("SELECT * FROM {view}")).unwrap();
    }

    // The promoted standby embeds the rows that were pending when the primary was lost.
    origin.batch_execute("ALTER SYSTEM SET clip.max_workers = 0").unwrap();
    origin.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut origin, "SELECT current_setting('clip.max_workers') = '0'");
    origin.batch_execute("CREATE TABLE queued (id int PRIMARY KEY, body text)").unwrap();
    origin.execute("SELECT clip_auto_embed('queued', 'body', model => 'narrow', mode => 'queue')", &[]).unwrap();
    origin.batch_execute("INSERT INTO queued SELECT i, 'text ' || i FROM generate_series(1, 50) AS i").unwrap();
    catch_up(&mut origin, &mut copy);
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_clip%'";
    assert_eq!(copy.query_one(workers, &[]).unwrap().get::<_, i64>(0), 0, "a standby has nothing to embed");
    drop(origin);
    primary.kill(primary.postmaster());
    assert!(copy.query_one("SELECT pg_promote()", &[]).unwrap().get::<_, bool>(0));
    wait_until(&mut copy, "SELECT count(embedding) = 50 FROM queued");
    copy.batch_execute("INSERT INTO item VALUES (202, 'after the promotion')").unwrap();
    wait_until(&mut copy, "SELECT embedding <=> clip_embed_text(body, 'wide') < 1e-6 FROM item WHERE id = 202");
}

#[test]
fn a_standby_without_models_or_runtime_replays_and_reads() {
    let primary = Cluster::start();
    let mut origin = primary.connect();
    table_with_index(&mut origin);
    for (setting, code) in [
        ("clip.model_path = '/nowhere'", &SqlState::UNDEFINED_OBJECT),
        ("clip.onnxruntime_path = '/nowhere/libonnxruntime.so'", &SqlState::UNDEFINED_FILE),
    ] {
        let standby = standby(&primary, &[setting]);
        let mut copy = standby.connect();
        origin.batch_execute("INSERT INTO item SELECT max(id) + 1, 'one more' FROM item").unwrap();
        origin.batch_execute("UPDATE item SET body = 'changed ' || id WHERE id < 50").unwrap();
        origin.batch_execute("REINDEX INDEX item_embedding_idx").unwrap();
        catch_up(&mut origin, &mut copy);
        let error = copy.query_one("SELECT clip_embed_text('a', 'wide')::text", &[]).unwrap_err();
        assert_eq!(sqlstate(&error), code, "{setting}: {error:?}");
        // The same connection continues to use stored embeddings, also with an index.
        assert_eq!(vectors(&mut copy, "item"), vectors(&mut origin, "item"), "{setting}");
        copy.batch_execute("SET enable_seqscan = off").unwrap();
        let like = "SELECT id FROM item ORDER BY embedding <=> (SELECT embedding FROM item WHERE id = 100) LIMIT 1";
        assert_eq!(ids(&mut copy, like), [100], "{setting}");
    }
}

#[test]
fn recovery_to_a_point_in_time_has_the_vectors_of_that_time() {
    let archive = std::env::temp_dir().join(format!("pg_clip-archive-{}", std::process::id()));
    std::fs::create_dir_all(&archive).unwrap();
    run(std::process::Command::new("chmod").arg("777").arg(&archive));
    let archived = archive.display();
    let primary = Cluster::start_with(&["archive_mode = on", &format!("archive_command = 'cp %p {archived}/%f'")]);
    let mut origin = primary.connect();
    table_with_index(&mut origin);
    let restored = format!("restore_command = 'cp {archived}/%f %p'");
    let settings = [
        restored.as_str(),
        "recovery_target_name = 'good'",
        "recovery_target_action = 'promote'",
        "archive_mode = off",
    ];
    let backup = primary.backup("recovery", &settings);
    origin.batch_execute("UPDATE item SET body = 'after the backup ' || id WHERE id <= 100").unwrap();
    let expected = vectors(&mut origin, "item");
    origin.batch_execute("SELECT pg_create_restore_point('good')").unwrap();
    origin.batch_execute("UPDATE item SET body = 'a mistake'; DELETE FROM item WHERE id > 20").unwrap();
    // Not in the same transaction, because the end of that transaction would be in the next file.
    origin.batch_execute("SELECT pg_switch_wal()").unwrap();
    wait_until(
        &mut origin,
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver",
    );
    drop(origin);
    primary.kill(primary.postmaster());
    backup.restart();
    let mut client = backup.connect();
    wait_until(&mut client, "SELECT NOT pg_is_in_recovery()");
    assert_eq!(vectors(&mut client, "item"), expected);
    client.batch_execute("SET enable_seqscan = off; INSERT INTO item VALUES (300, 'life goes on')").unwrap();
    let like =
        "SELECT id FROM item ORDER BY embedding <=> (SELECT clip_embed_text('after the backup 17', 'wide')) LIMIT 1";
    assert_eq!(ids(&mut client, like), [17]);
    std::fs::remove_dir_all(archive).unwrap();
}

#[test]
fn a_subscriber_needs_only_pgvector() {
    let publisher = Cluster::start_with(&["wal_level = logical"]);
    let subscriber = Cluster::start();
    let mut source = publisher.connect();
    table_with_index(&mut source);
    source.batch_execute("CREATE PUBLICATION p FOR TABLE item").unwrap();
    subscriber.connect().batch_execute("CREATE DATABASE plain").unwrap();
    let mut copy = subscriber.config("postgres").dbname("plain").connect(NoTls).unwrap();
    copy.batch_execute("CREATE EXTENSION vector; CREATE TABLE item (id int PRIMARY KEY, body text, embedding vector)")
        .unwrap();
    let connection = conninfo(&publisher) + " dbname=postgres";
    copy.batch_execute(&format!("CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p")).unwrap();
    wait_until(&mut copy, "SELECT count(embedding) = 200 FROM item");
    source
        .batch_execute("UPDATE item SET body = 'changed ' || id WHERE id <= 10; DELETE FROM item WHERE id > 150")
        .unwrap();
    wait_until(&mut copy, "SELECT count(*) = 150 AND count(*) FILTER (WHERE body LIKE 'changed%') = 10 FROM item");
    assert_eq!(vectors(&mut copy, "item"), vectors(&mut source, "item"));
    copy.batch_execute("DROP SUBSCRIPTION s").unwrap();
}
