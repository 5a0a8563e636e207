//! The SQL specification in tests/pg_regress, run by PostgreSQL's own pg_regress.

use std::process::Command;

use e2e::{Cluster, pg_config, root};

#[test]
fn sql_behaves_as_specified() {
    let cluster = Cluster::start();
    std::fs::create_dir(cluster.models().join("broken")).unwrap();
    let tests = root().join("tests/pg_regress");
    // In this order: `surface` drops and creates the extension.
    let names = ["text", "image", "batch", "errors", "settings", "privileges", "auto_embed", "surface"];
    let written = std::fs::read_dir(tests.join("sql")).unwrap().count();
    assert_eq!(names.len(), written, "a file of tests/pg_regress/sql is not run");
    let output = Command::new(pg_config("--pgxs").replace("makefiles/pgxs.mk", "test/regress/pg_regress"))
        .args(["--use-existing", "--dbname=postgres", "--user=postgres"])
        .arg(format!("--host={}", cluster.directory.display()))
        .arg(format!("--bindir={}", pg_config("--bindir")))
        .arg(format!("--inputdir={}", tests.display()))
        .arg(format!("--outputdir={}", cluster.directory.display()))
        .args(names)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let differences = std::fs::read_to_string(cluster.directory.join("regression.diffs")).unwrap_or_default();
    if let Some(folder) = std::env::var_os("PG_CLIP_KEEP_RESULTS") {
        let results = cluster.directory.join("results");
        e2e::run(Command::new("cp").arg("-r").arg(results).arg(folder));
    }
    assert!(output.status.success(), "{differences}{}", String::from_utf8_lossy(&output.stderr));
}
