//! Attacks of owners of tables and databases, and of roles with partial read rights, on other roles and on the server.

mod code;
mod counts;
mod failures;
mod tables;

use e2e::{Cluster, code, count, create_citext, wait_until};
use postgres::Client;

fn strings(client: &mut Client, query: &str) -> Vec<String> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

const TOO_LONG: &str = "repeat('long ', 1000)";
