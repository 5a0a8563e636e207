//! The README is the manual: every SQL block in it runs, in order, and gives what it says.

use std::process::Command;

use e2e::{Cluster, root};

/// The SQL blocks, each with the output that the README promises for its last statement, if it does.
fn blocks(readme: &str) -> Vec<(String, Option<String>)> {
    let mut blocks: Vec<(String, Option<String>)> = Vec::new();
    for fence in readme.split("```").skip(1).step_by(2) {
        let (kind, body) = fence.split_once('\n').unwrap();
        match kind {
            "sql" => blocks.push((body.to_owned(), None)),
            "output" => blocks.last_mut().unwrap().1 = Some(body.to_owned()),
            _ => (),
        }
    }
    blocks
}

#[test]
fn every_sql_block_runs_and_gives_what_it_says() {
    let cluster = Cluster::start();
    // As after an installation: no extension yet. The model that a recipe calls somebody's own is the embedded one.
    let mut client = cluster.connect();
    client.batch_execute("DROP EXTENSION pg_clip; DROP EXTENSION vector").unwrap();
    drop(client);
    let own = root().join("models/emoji");
    e2e::run(cluster.pgclip().args(["add", "radiology", "--license", "MIT", "--logit-scale", "40"]).arg(own));
    let blocks = blocks(&std::fs::read_to_string(root().join("README.md")).unwrap());
    assert!(blocks.len() >= 10);
    for (sql, expected) in blocks {
        let output = Command::new(format!("{}/psql", e2e::pg_config("--bindir")))
            .current_dir(root())
            .args(["-X", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--username=postgres"])
            .arg(format!("--host={}", cluster.directory.display()))
            .args(["--dbname=postgres", "--file=-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut psql| {
                use std::io::Write;
                psql.stdin.take().unwrap().write_all(sql.as_bytes())?;
                psql.wait_with_output()
            })
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}{errors}");
        if let Some(expected) = expected {
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(printed.ends_with(&expected), "{sql}printed:\n{printed}expected:\n{expected}");
        }
    }
}
