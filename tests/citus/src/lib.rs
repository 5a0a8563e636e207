//! A coordinator and two workers of Citus on this machine, each with the extension and its own models.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Cluster, pg_config, schema, wait_until};
use postgres::Client;

/// The nodes. The first one is the coordinator.
pub struct Nodes {
    pub nodes: Vec<Cluster>,
    addresses: Vec<String>,
}

impl Nodes {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the nodes with additional lines of postgresql.conf.
    pub fn start_with(settings: &[&str]) -> Self {
        let library = Path::new(&pg_config("--pkglibdir")).join("citus.so");
        assert!(library.exists(), "there is no Citus: install it, so that {} exists", library.display());
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Every address of 127.0.0.0/8 is this machine, so the nodes share a port.
        let number = std::process::id() + NUMBER.fetch_add(1, Ordering::Relaxed) * 7919;
        let address = |node: u32| format!("127.{}.{}.{node}", 1 + number / 250 % 250, 1 + number % 250);
        let addresses: Vec<_> = (1..=3).map(address).collect();
        let start = |address: &String| {
            let own = [
                "shared_preload_libraries = 'citus,pg_clip'".into(),
                format!("listen_addresses = '{address}'"),
                format!("citus.local_hostname = '{address}'"),
                "citus.node_conninfo = 'sslmode=prefer'".into(),
                "citus.shard_count = 8".into(),
                "citus.enable_statistics_collection = off".into(),
                "wal_level = logical".into(),
                "max_worker_processes = 40".into(),
                "max_prepared_transactions = 100".into(),
                "max_connections = 200".into(),
                "shared_buffers = '32MB'".into(),
                "clip.worker_naptime = '2s'".to_owned(),
            ];
            let lines: Vec<_> = own.iter().map(String::as_str).chain(settings.iter().copied()).collect();
            let cluster = Cluster::start_with(&lines);
            cluster.connect().batch_execute("CREATE EXTENSION citus").unwrap();
            cluster
        };
        let nodes: Vec<_> = addresses.iter().map(start).collect();
        let mut client = nodes[0].connect();
        client.execute("SELECT citus_set_coordinator_host($1, 5432)", &[&addresses[0]]).unwrap();
        for address in &addresses[1..] {
            client.execute("SELECT citus_add_node($1, 5432)", &[address]).unwrap();
        }
        let versions = client.query_one("SELECT citus_version(), version(), clip_version FROM (SELECT value FROM clip_diagnose() WHERE item = 'pg_clip') AS d (clip_version)", &[]).unwrap();
        println!(
            "{}; {}; pg_clip {}",
            versions.get::<_, &str>(0),
            versions.get::<_, &str>(1),
            versions.get::<_, &str>(2)
        );
        Self { nodes, addresses }
    }

    pub fn coordinator(&self) -> Client {
        self.nodes[0].connect()
    }

    /// Returns the address of a node, as Citus knows it.
    pub fn address(&self, node: usize) -> &str {
        &self.addresses[node]
    }

    /// Creates a role on all nodes, which can call the functions.
    pub fn create_role(&self, role: &str) {
        self.coordinator().batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
        if let Some(schema) = schema() {
            self.coordinator().batch_execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {role}")).unwrap();
        }
    }
}

/// Waits until no row of a table is pending.
pub fn wait_for_queue(client: &mut Client, table: &str) {
    wait_until(
        client,
        &format!(
            "SELECT COALESCE(bool_and(pending = 0), false) FROM clip_auto_embed_status WHERE relation = '{table}'"
        ),
    );
}

/// Returns the answers of all nodes to a query of one value, in the order of the nodes.
pub fn answers(client: &mut Client, query: &str) -> Vec<String> {
    let rows =
        client.query("SELECT success, result FROM run_command_on_all_nodes($1) ORDER BY nodeid", &[&query]).unwrap();
    rows.iter()
        .map(|row| {
            assert!(row.get::<_, bool>(0), "{query}: {}", row.get::<_, &str>(1));
            row.get(1)
        })
        .collect()
}

/// Runs statements in messages of their own. Citus sends the whole message of some statements to the nodes.
pub fn run_each(client: &mut Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// The condition that a stored embedding matches its source.
pub const MATCHES: &str = "embedding <=> clip_embed_text(body, 'emoji') < 0.00001";
