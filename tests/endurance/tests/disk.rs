//! A full disk. Needs root, to create a small one.

use std::path::PathBuf;
use std::process::Command;

use e2e::{Cluster, count, run, sqlstate};
use postgres::error::SqlState;

/// A file system in memory. Dropping it unmounts it.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").args(["--lazy"]).arg(&self.0).status().ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_full_disk_stops_a_backfill_and_loses_nothing() {
    const WRONG: &str = "SELECT count(*) FROM item WHERE embedding <=> clip_embed_text(body, 'emoji') > 1e-6";
    let cluster = Cluster::start();
    let owner = cluster.owner();
    let disk = SmallDisk(std::env::temp_dir().join(format!("pg_clip-disk-{}", std::process::id())));
    std::fs::create_dir(&disk.0).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size=3m,uid={owner},mode=700"), "tmpfs"])
        .arg(&disk.0));
    let mut client = cluster.connect();
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display())).unwrap();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text) TABLESPACE small; INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 10000) AS i").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'emoji', create_index => false)", &[]).unwrap();
    let error = client.batch_execute("CALL clip_backfill('item', batch_size => 100)").unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::DISK_FULL, "{error:?}");
    let before = count(&mut client, "SELECT count(embedding) FROM item");
    assert!(before > 0 && before < 10_000, "{before}");
    assert_eq!(count(&mut client, WRONG), 0);
    // The server crashes while the disk is full. The backfill resumes as soon as there is space.
    drop(client);
    cluster.restart();
    run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk.0));
    let mut client = cluster.connect();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), before);
    client.batch_execute("CALL clip_backfill('item')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), 10_000);
    assert_eq!(count(&mut client, WRONG), 0);
    client.batch_execute("DROP TABLE item").unwrap();
    client.batch_execute("DROP TABLESPACE small").unwrap();
}
