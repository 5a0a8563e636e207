//! Searches obey the caller's rights, return k rows if k rows match, and end in time.

mod answers;
mod rights;

use std::time::{Duration, Instant};

use e2e::{Cluster, code, count, home};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

/// Creates rows with vectors in all directions, and an index over them.
fn fill(client: &mut Client, rows: usize) {
    client
        .batch_execute(&format!(
            "CREATE TABLE item (id int PRIMARY KEY, owner name, kind int, title text, embedding vector(8),
               words tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED);
             INSERT INTO item SELECT i, CASE i % 100 WHEN 42 THEN 'tenant' ELSE 'other' END, i % 100, 'a lamp',
               ARRAY(SELECT sin(i * sqrt(7 * n + 3)) FROM generate_series(1, 8) AS n)::vector FROM generate_series(1, {rows}) AS i;
             SET maintenance_work_mem = '512MB'; SET max_parallel_maintenance_workers = 2;
             CREATE INDEX ON item USING hnsw (embedding vector_cosine_ops); ANALYZE item"
        ))
        .unwrap();
}

/// A typical vector that no row has.
const QUERY: &str = "'[1,-1,1,-1,1,1,1,1]'";

/// Returns the number of rows of a statement. The simple protocol avoids the client's own queries for types.
fn rows_of(client: &mut Client, statement: &str) -> usize {
    let messages = client.simple_query(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()
}
