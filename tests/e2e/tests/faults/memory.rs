//! Refused memory is an error at every step. It never crashes the server.

use e2e::{Cluster, code, count, flat_png, limit_memory, picture, pid, sqlstate, wait_until};
use postgres::Client;
use postgres::error::SqlState;

#[test]
fn memory_that_is_refused_is_an_error_at_any_step() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id serial PRIMARY KEY, picture bytea, body text)").unwrap();
    client
        .execute("SELECT clip_auto_embed('item', 'body', 'words', model => 'emoji', create_index => false)", &[])
        .unwrap();
    drop(client);
    let large = picture("rgb_444.jpg");
    type Work<'a> = Box<dyn Fn(&mut Client) -> Result<u64, postgres::Error> + 'a>;
    let works: [Work<'_>; 4] = [
        Box::new(|client| client.execute("SELECT clip_embed_text('a cat', 'emoji')", &[])),
        Box::new(|client| client.execute("SELECT clip_embed_image($1, 'emoji')", &[&large])),
        Box::new(|client| {
            client.execute("SELECT clip_embed_images(array_fill($1::bytea, ARRAY[64]), 'emoji')", &[&large])
        }),
        Box::new(|client| {
            client.execute("INSERT INTO item (body) SELECT 'text ' || i FROM generate_series(1, 20) AS i", &[])
        }),
    ];
    for (number, work) in works.iter().enumerate() {
        let (mut refused, mut done) = (0, 0);
        for megabytes in (0..64).step_by(3).chain((64..160).step_by(16)).chain([256, 512, 1024]) {
            let mut client = cluster.connect();
            client.batch_execute("LOAD 'pg_clip'").unwrap();
            let pid = pid(&mut client);
            limit_memory(pid, Some(megabytes));
            match work(&mut client) {
                Ok(_) => done += 1,
                Err(error) => {
                    let code = sqlstate(&error);
                    // The second error is the server's, or ours if a library cannot be mapped.
                    assert!(
                        [&SqlState::OUT_OF_MEMORY, &SqlState::UNDEFINED_FILE].contains(&code),
                        "{number}, {megabytes} MB: {error:?}"
                    );
                    refused += 1;
                }
            }
            // The same connection works when there is memory again.
            limit_memory(pid, None);
            work(&mut client).unwrap_or_else(|error| panic!("{number}, after {megabytes} MB: {error:?}"));
        }
        assert!(refused > 5 && done > 0, "{number}: {refused} refused, {done} done: the limits prove nothing");
    }
    cluster.assert_no_crash();
}

#[test]
fn arrays_of_millions_raise_an_error_if_memory_is_short() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE large (texts text[], vectors vector[], digest text);
             INSERT INTO large SELECT array_fill('a'::text, ARRAY[8000000]), array_fill(clip_embed_text('a', 'narrow'), ARRAY[1000000]), (SELECT digest FROM clip_models WHERE name = 'emoji')",
        )
        .unwrap();
    drop(client);
    let mut gone_on = 0;
    for call in [
        "FROM large, clip_embed_texts(texts, 'narrow')",
        "FROM large, clip_classify(vectors[1], texts, model => 'emoji')",
        "FROM large, clip_classify(vectors[1], '{a}', texts, model => 'emoji')",
        "clip_probabilities(vectors[1], vectors) FROM large",
        "clip_blend(vectors) FROM large",
        "clip_blend(vectors[1:1], array_fill(1.0::real, ARRAY[15000000])) FROM large",
        "clip_token_count(repeat('1', 1048576), 'emoji')",
        "clip_token_count(repeat('1', 1048576), 'narrow')",
        "clip_classify(vectors[1], ARRAY[repeat('a', 1048000)], array_fill('{} {}'::text, ARRAY[1000]), 'emoji') FROM large",
        "clip_classify(vectors[1], ARRAY[repeat('a', 1048000)], array_fill('{}'::text, ARRAY[1000]), 'emoji') FROM large",
    ] {
        let mut refused = 0;
        for megabytes in (20..300).step_by(40).chain((300..1500).step_by(150)) {
            let mut client = cluster.connect();
            client.batch_execute("LOAD 'pg_clip'; SET statement_timeout = '1s'").unwrap();
            limit_memory(pid(&mut client), Some(megabytes));
            match code(&mut client, &format!("SELECT {call}")) {
                Some(SqlState::OUT_OF_MEMORY | SqlState::UNDEFINED_FILE) => refused += 1,
                // A second is not sufficient for the whole call.
                None
                | Some(
                    SqlState::QUERY_CANCELED
                    | SqlState::DATA_EXCEPTION
                    | SqlState::INVALID_BINARY_REPRESENTATION
                    | SqlState::INVALID_PARAMETER_VALUE
                    | SqlState::PROGRAM_LIMIT_EXCEEDED,
                ) => gone_on += 1,
                other => panic!("{call}, {megabytes} MB: {other:?}"),
            }
            assert_eq!(code(&mut client, "SELECT 1"), None, "{call}, {megabytes} MB");
        }
        assert!(refused > 2 || call.contains("{} {}"), "{call}: {refused} refused: the limits prove nothing");
    }
    assert!(gone_on > 5, "{gone_on} not refused: the limits prove nothing");
    cluster.assert_no_crash();
}

#[test]
fn threads_without_memory_do_not_crash_the_server() {
    let cluster = Cluster::start();
    let large = flat_png(2000, 2000);
    let (mut refused, mut done) = (0, 0);
    for (number, megabytes) in (0..800).step_by(8).enumerate() {
        let mut client = cluster.connect();
        client.batch_execute("LOAD 'pg_clip'; SET clip.threads = 4").unwrap();
        if number % 2 == 0 {
            client.batch_execute("SELECT clip_prewarm('emoji', 'image'), clip_prewarm('emoji', 'text')").unwrap();
        }
        limit_memory(pid(&mut client), Some(megabytes));
        let images = "SELECT count(*) FROM clip_embed_images(array_fill($1::bytea, ARRAY[8]), 'emoji')";
        let texts = "SELECT count(*) FROM clip_embed_texts((SELECT array_agg('text ' || i) FROM generate_series(1, 100) AS i), 'emoji')";
        for result in [client.execute(images, &[&large]), client.execute(texts, &[]), client.execute(images, &[&large])]
        {
            match result {
                Ok(_) => done += 1,
                Err(error) => {
                    let code = sqlstate(&error);
                    assert!(
                        [&SqlState::OUT_OF_MEMORY, &SqlState::UNDEFINED_FILE].contains(&code),
                        "{megabytes} MB: {error:?}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 20 && done > 20, "{refused} refused, {done} done: the limits prove nothing");
    cluster.assert_no_crash();
}

/// An error after a commit is a panic of the server.
#[test]
fn a_commit_that_starts_a_worker_needs_no_memory() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
    client
        .execute(
            "SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'queue', create_index => false)",
            &[],
        )
        .unwrap();
    // A session keeps its custom settings in memory. They fill it until none is left.
    let fill = "CREATE PROCEDURE fill(size int) LANGUAGE plpgsql AS $$
        DECLARE number int := 0;
        BEGIN
          WHILE size >= 8 LOOP
            BEGIN
              LOOP number := number + 1; PERFORM set_config('filled.a' || number, repeat('x', size), false); END LOOP;
            EXCEPTION WHEN out_of_memory THEN size := size / 4;
            END;
          END LOOP;
        END $$";
    client.batch_execute(fill).unwrap();
    for id in 0..2 {
        let mut writer = cluster.connect();
        writer.batch_execute("LOAD 'pg_clip'; CALL fill(0)").unwrap();
        writer.batch_execute(&format!("BEGIN; INSERT INTO item VALUES ({id}, 'text {id}')")).unwrap();
        let pid = pid(&mut writer);
        limit_memory(pid, Some(1));
        // The server's own code may have no memory to report that it is done.
        let filled = writer.batch_execute("CALL fill(4096)");
        println!("{id}: {:?}, then {:?}", filled.err(), writer.batch_execute("COMMIT").err());
        if let Ok(()) = std::fs::metadata(format!("/proc/{pid}")).map(drop) {
            limit_memory(pid, None);
        }
        cluster.assert_no_crash();
    }
    wait_until(&mut client, "SELECT count(*) = count(embedding) FROM item");
    assert!(count(&mut client, "SELECT count(*) FROM item") > 0, "no commit succeeded: this proves nothing");
}
