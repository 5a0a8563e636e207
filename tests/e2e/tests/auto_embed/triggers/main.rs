//! The triggers of managed columns: which column each belongs to, the application's triggers around them, and partitions that
//! come and go.

mod deferred;
mod keep;
mod later;
mod names;
mod partitions;
mod records;
mod states;

use e2e::{code, count, wait_until};
use postgres::Client;
use postgres::error::SqlState;

/// Rows whose embedding does not match their source.
fn stale(client: &mut Client, table: &str, source: &str, target: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM {table} WHERE {target} IS NOT NULL AND \
            ({source} IS NULL OR {target} <=> clip_embed_text({source}, 'narrow') > 1e-5)"
    );
    count(client, &query)
}

fn attach(client: &mut Client, table: &str, source: &str, target: &str, more: &str) -> Option<SqlState> {
    code(
        client,
        &format!(
            "SELECT clip_auto_embed('{table}', '{source}', '{target}', model => 'narrow', create_index => false{more})"
        ),
    )
}

fn wait_for_worker(client: &mut Client, table: &str) {
    wait_until(client, &format!("SELECT count(*) = 0 FROM {table} WHERE title IS NOT NULL AND embedding IS NULL"));
}
