//! Shards that Citus moves and splits, and the rate of the queue on two nodes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use citus::{MATCHES, Nodes, answers, run_each, wait_for_queue};
use e2e::count;
use postgres::Client;

/// Moves all shards of a table to one node. `mode` is that of citus_move_shard_placement.
fn move_all(client: &mut Client, nodes: &Nodes, table: &str, to: usize, mode: &str) {
    let query = "SELECT shardid, nodename FROM citus_shards WHERE table_name = $1::text::regclass AND nodename <> $2";
    for row in client.query(query, &[&table, &nodes.address(to)]).unwrap() {
        let (shard, from): (i64, String) = (row.get(0), row.get(1));
        let call = format!(
            "SELECT citus_move_shard_placement({shard}, '{from}', 5432, '{}', 5432, '{mode}')",
            nodes.address(to)
        );
        run_each(client, &[&call]);
    }
}

#[test]
fn moved_and_split_shards_are_embedded() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    run_each(
        &mut client,
        &[
            "CREATE TABLE item (id bigint PRIMARY KEY, body text)",
            "SELECT create_distributed_table('item', 'id')",
            "SELECT clip_auto_embed('item', 'body', mode => 'queue')",
            "INSERT INTO item SELECT i, 'a red apple ' || i FROM generate_series(1, 100) AS i",
        ],
    );
    let write = |client: &mut Client, from: i64| {
        client
            .batch_execute(&format!(
                "INSERT INTO item SELECT i, 'a tree ' || i FROM generate_series({from}, {from} + 49) AS i"
            ))
            .unwrap();
        client.batch_execute(&format!("UPDATE item SET body = 'fish {from}' WHERE id % 10 = 0")).unwrap();
    };
    // While workers embed, and afterwards.
    write(&mut client, 1000);
    move_all(&mut client, &nodes, "item", 1, "force_logical");
    write(&mut client, 2000);
    wait_for_queue(&mut client, "item");
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 200);
    move_all(&mut client, &nodes, "item", 2, "block_writes");
    write(&mut client, 3000);
    wait_for_queue(&mut client, "item");
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 250);
    // Node 2 has all shards, and each has a trigger and both indexes.
    let shards = "SELECT count(*) FROM citus_shards WHERE table_name = 'item'::regclass AND nodename = $1";
    assert_eq!(client.query_one(shards, &[&nodes.address(2)]).unwrap().get::<_, i64>(0), 8);
    // A split: the halves get names of their own.
    let node = answers(&mut client, "SELECT nodeid FROM pg_dist_node ORDER BY nodename LIMIT 1 OFFSET 2").remove(0);
    let row = client.query_one("SELECT shardid, (shardminvalue::bigint + shardmaxvalue::bigint) / 2 FROM pg_dist_shard WHERE logicalrelid = 'item'::regclass ORDER BY shardid LIMIT 1", &[]).unwrap();
    let (shard, middle): (i64, i64) = (row.get(0), row.get(1));
    let split = |mode: &str| {
        format!("SELECT citus_split_shard_by_split_points({shard}, ARRAY['{middle}'], ARRAY[{node}, {node}], '{mode}')")
    };
    write(&mut client, 4000);
    run_each(&mut client, &[&split("block_writes")]);
    write(&mut client, 5000);
    wait_for_queue(&mut client, "item");
    assert_eq!(count(&mut client, "SELECT count(*) FROM citus_shards WHERE table_name = 'item'::regclass"), 9);
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 350);
    assert_eq!(count(&mut client, "SELECT count(*) FROM item"), 350);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
}

/// Returns the seconds in which the queue embeds all rows of a table.
fn seconds(nodes: &Nodes, client: &mut Client, table: &str) -> f64 {
    let switch = |workers: u32| {
        for node in &nodes.nodes {
            run_each(
                &mut node.connect(),
                &[&format!("ALTER SYSTEM SET clip.max_workers = {workers}"), "SELECT pg_reload_conf()"],
            );
        }
    };
    switch(0);
    run_each(client, &[&format!("UPDATE {table} SET embedding = NULL")]);
    switch(1);
    let begun = Instant::now();
    client.batch_execute("SELECT run_command_on_workers('SELECT _clip_wake_worker()')").unwrap();
    let left = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE embedding IS NULL AND body IS NOT NULL LIMIT 1) AS t"
    );
    while count(client, &left) > 0 {
        std::thread::sleep(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(300), "the queue of {table} does not end");
    }
    begun.elapsed().as_secs_f64()
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().into()
}

#[test]
fn two_nodes_embed_twice_as_fast_as_one() {
    const ROWS: usize = 4000;
    let nodes = Nodes::start_with(&["clip.threads = 1"]);
    let mut client = nodes.coordinator();
    // Each node has a core of its own.
    for (core, node) in nodes.nodes[1..].iter().enumerate() {
        for process in node.processes() {
            let (core, number) = (core.to_string(), process.to_string());
            let pinned = Command::new("taskset").args(["--cpu-list", "--pid", &core, &number]).output().unwrap();
            // A process can end meanwhile.
            assert!(pinned.status.success() || !Path::new("/proc").join(number).exists(), "{pinned:?}");
        }
    }
    for table in ["together", "alone"] {
        run_each(
            &mut client,
            &[
                &format!("CREATE TABLE {table} (id bigint PRIMARY KEY, body text)"),
                &format!("SELECT create_distributed_table('{table}', 'id', colocate_with => 'none')"),
                &format!(
                    "INSERT INTO {table} SELECT i, repeat('a red apple on a green tree ', 5) || i FROM generate_series(1, {ROWS}) AS i"
                ),
                &format!("SELECT clip_auto_embed('{table}', 'body', mode => 'queue', create_index => false)"),
            ],
        );
        wait_for_queue(&mut client, table);
    }
    move_all(&mut client, &nodes, "alone", 1, "block_writes");
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let [one, two] = ["alone", "together"].map(|table| seconds(&nodes, &mut client, table));
        let ratio = one / two;
        println!(
            "{ROWS} texts: one node {:.0} rows/s, two nodes {:.0} rows/s, ratio {ratio:.2}, load {}",
            ROWS as f64 / one,
            ROWS as f64 / two,
            load()
        );
        ratios.push(ratio);
        if ratio >= 1.8 {
            return;
        }
    }
    panic!("two nodes are not 1.8 times as fast as one: {ratios:?}");
}
