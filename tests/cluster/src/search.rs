//! Searches of a table of photos, whose partitions are on other servers.

use e2e::count;
use postgres::Client;

use crate::{Network, require_fdw};

/// Starts four servers with a table of photos over three of them.
pub fn start(options: &str, rows: i32) -> Network {
    require_fdw();
    let network = Network::start(
        4,
        &["random_page_cost = 1.1", "session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0"],
    );
    network.make_photos(rows, options);
    network
}

/// Returns the ids and distances that a search finds.
pub fn found(client: &mut Client, query: &str, arguments: &str) -> Vec<(i32, f64)> {
    let search = format!(
        "SELECT key::int, distance FROM clip_search_vector('photo', '{query}', key_column => 'id'{arguments}) ORDER BY rank"
    );
    client.query(&search, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Returns how often a server has used its index.
pub fn scans(network: &Network, number: usize) -> i64 {
    count(
        &mut network.connect(number),
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'photo_own_embedding_idx'",
    )
}
