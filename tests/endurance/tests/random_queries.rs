//! SQLsmith: random queries over all objects of the database.

use std::process::Command;

use e2e::Cluster;

const QUERIES: u32 = 100_000;
/// The test checks the server after this number of queries.
const LOT: u32 = 10_000;

#[test]
fn a_hundred_thousand_random_queries_end_no_process() {
    let cluster = Cluster::start_with(&["log_error_verbosity = verbose"]);
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text, picture bytea)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    client.execute("SELECT clip_auto_embed('item', 'picture', 'pixels', 'wide', on_error => 'null')", &[]).unwrap();
    client.batch_execute("INSERT INTO item SELECT i, 'text ' || i, CASE WHEN i % 2 = 0 THEN 'broken'::bytea END FROM generate_series(1, 50) AS i").unwrap();
    // A superuser could damage the server in ways that are not pg_clip's. The timeout ends endless queries.
    client
        .batch_execute(
            "CREATE ROLE smith LOGIN; GRANT ALL ON item TO smith; ALTER ROLE smith SET statement_timeout = '1s'",
        )
        .unwrap();
    client.batch_execute("GRANT CREATE ON SCHEMA public TO smith").unwrap();
    let target = format!("host={} port=5432 user=smith dbname=postgres", cluster.directory.display());
    for lot in 0..QUERIES / LOT {
        let output = Command::new("sqlsmith")
            .args([
                &format!("--target={target}"),
                &format!("--max-queries={LOT}"),
                &format!("--seed={lot}"),
                "--exclude-catalog",
            ])
            .output()
            .expect("sqlsmith is one of the packages that `make test-all` installs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        client.batch_execute("SELECT clip_embed_text('still here', 'emoji')").unwrap();
    }
    cluster.assert_no_crash();
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    // Unexpected errors that Rust raised. The server raises some of its own.
    let (mut last, mut ours) = ("", Vec::new());
    for line in log.lines() {
        match line {
            _ if line.contains(" ERROR:  ") => last = line,
            _ if line.contains(" LOCATION:  ") && line.contains(".rs:") && last.contains("XX000") => ours.push(last),
            _ => {}
        }
    }
    assert!(ours.is_empty(), "{ours:#?}");
    let calls = log.matches("clip_").count();
    println!("{QUERIES} queries; the log has clip_ {calls} times");
    assert!(calls > 1000, "SQLsmith hardly called our functions: {calls}");
}
