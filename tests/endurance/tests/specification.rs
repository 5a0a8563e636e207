//! The SQL specification under settings that change the execution of all statements.

use e2e::{Cluster, pg_config, specification};

/// Compiles every statement, and runs every statement that can run in a parallel worker in one.
#[test]
fn sql_behaves_the_same_with_jit_and_forced_parallel_queries() {
    let major: u32 = pg_config("--version").split(|c: char| !c.is_ascii_digit()).find_map(|n| n.parse().ok()).unwrap();
    let forced = if major >= 16 { "debug_parallel_query = regress" } else { "force_parallel_mode = regress" };
    let jit = ["jit = on", "jit_above_cost = 0", "jit_inline_above_cost = 0", "jit_optimize_above_cost = 0"];
    let jit_is_there: bool = Cluster::start().connect().query_one("SELECT pg_jit_available()", &[]).unwrap().get(0);
    assert!(jit_is_there, "this server compiles nothing");
    specification(&[&jit[..], &[forced, "max_parallel_workers = 8"]].concat());
}
