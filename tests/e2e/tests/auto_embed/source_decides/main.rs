//! An embedding always belongs to the source in its row, for all statements and all roles.

mod changes;
mod roles;
mod writes;

use e2e::{Cluster, code, count, wait_until};
use postgres::Client;
use postgres::error::SqlState;

/// Returns the number of rows whose embedding is not that of their source, or is missing.
fn wrong(client: &mut Client, table: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM {table} WHERE title IS NOT NULL AND \
            (embedding IS NULL OR embedding <=> clip_embed_text(title, 'narrow') > 1e-5) OR title IS NULL AND embedding IS NOT NULL"
    );
    count(client, &query)
}

fn attach(client: &mut Client, table: &str, mode: &str) {
    let call = format!(
        "SELECT clip_auto_embed('{table}', 'title', model => 'narrow', mode => '{mode}', create_index => false)"
    );
    client.execute(&call, &[]).unwrap();
}

fn wait_for_worker(client: &mut Client, table: &str) {
    wait_until(client, &format!("SELECT count(*) = 0 FROM {table} WHERE title IS NOT NULL AND embedding IS NULL"));
}
