//! What owners of tables and of databases, and those who may read some of it, would do to others and to the server.

mod failures;
mod tables;

use e2e::{Cluster, code, count, create_citext, wait_until};
use postgres::Client;

fn strings(client: &mut Client, query: &str) -> Vec<String> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

const TOO_LONG: &str = "repeat('long ', 1000)";
