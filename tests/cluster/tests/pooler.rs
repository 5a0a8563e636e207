//! PgBouncer in transaction mode in front of a streaming standby, each in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Network;
use e2e::{Cluster, wait_until};
use postgres::{Client, Config, NoTls};

/// The pooler. Dropping it ends the process.
struct Pool {
    process: Child,
    config: Config,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Pool {
    /// Starts a pooler of two sessions per database in a namespace. Its database is on the first host that answers.
    fn start(cluster: &Cluster, namespace: &str, hosts: &str) -> Self {
        let folder = cluster.directory.join("pool");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.display();
        std::fs::write(folder.join("users"), "\"app\" \"secret\"\n").unwrap();
        // Settings that clients set must not reach the next client of a session.
        let settings = format!(
            "[databases]\npostgres = host={hosts} port=5432\n[pgbouncer]\nunix_socket_dir = {path}\nlisten_port = 6432\nauth_type = plain\n\
             auth_file = {path}/users\npool_mode = transaction\ndefault_pool_size = 2\nserver_login_retry = 1\nserver_connect_timeout = 2\n\
             query_wait_timeout = 30\nlogfile = {path}/log\npidfile = {path}/pid\n"
        );
        std::fs::write(folder.join("settings"), settings).unwrap();
        e2e::run(Command::new("chmod").args(["-R", "a+rwX"]).arg(&folder));
        e2e::run(Command::new("chmod").arg("a+x").arg(&cluster.directory));
        let process = Command::new("ip")
            .args(["netns", "exec", namespace, "setpriv", "--reuid", &cluster.owner().to_string(), "pgbouncer"])
            .arg(folder.join("settings"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut config = Config::new();
        config.host_path(&folder).port(6432).user("app").password("secret").dbname("postgres");
        Self { process, config }
    }

    fn connect(&self) -> Client {
        let begun = Instant::now();
        loop {
            match self.config.connect(NoTls) {
                Ok(client) => return client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error:?}: is pgbouncer installed?"),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Returns the first column of a query. Uses no prepared statements of the protocol.
fn ask(client: &mut Client, query: &str) -> Result<Vec<String>, postgres::Error> {
    let messages = client.simple_query(query)?;
    let rows = messages.iter().filter_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.collect())
}

const SEARCH: &str = "SELECT key FROM clip_search('item', 'text 17', 5) ORDER BY rank";

#[test]
fn a_pool_of_sessions_on_a_standby_searches_and_follows_the_promotion() {
    let network = Network::start(2, &["shared_preload_libraries = 'pg_clip'", "wal_level = replica"]);
    let primary = network.server(0);
    let mut origin = primary.connect();
    origin
        .batch_execute(
            "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE copier LOGIN REPLICATION PASSWORD 'secret';
             CREATE TABLE item (id int PRIMARY KEY, body text);
             SELECT clip_auto_embed('item', 'body', model => 'narrow');
             INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 200) AS i;
             GRANT SELECT, INSERT ON item TO app",
        )
        .unwrap();
    // The standby is in the other namespace: it replicates over the network.
    let standby = network.standby(0, 1, "copier", "secret");
    let expected = ask(&mut origin, SEARCH).unwrap();
    let mut copy = standby.connect();
    let written = ask(&mut origin, "SELECT pg_current_wal_insert_lsn()").unwrap().remove(0);
    wait_until(&mut copy, &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"));

    let pool = Pool::start(&standby, &network.namespace(1), &network.address(1));
    thread::scope(|scope| {
        for number in 0..6 {
            let (pool, expected) = (&pool, &expected);
            scope.spawn(move || {
                let mut client = pool.connect();
                for _ in 0..10 {
                    assert_eq!(&ask(&mut client, SEARCH).unwrap(), expected);
                    // A setting of a transaction is not seen by the next client of the session.
                    let model = if number % 2 == 0 { "narrow" } else { "emoji" };
                    let text = format!("BEGIN; SET LOCAL clip.default_model = '{model}'; SELECT vector_dims(clip_embed_text('cat')); COMMIT");
                    assert_eq!(ask(&mut client, &text).unwrap(), [if number % 2 == 0 { "32" } else { "128" }]);
                    assert_eq!(ask(&mut client, "SHOW clip.default_model").unwrap(), ["emoji"]);
                }
            });
        }
    });
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    assert!(e2e::count(&mut copy, sessions) <= 2, "the pool was not used");
    let mut client = pool.connect();
    let error = ask(&mut client, "INSERT INTO item VALUES (201, 'new')").unwrap_err();
    assert_eq!(e2e::sqlstate(&error).code(), "25006");

    // A new row arrives in the sessions of the pool, and in its searches.
    origin.batch_execute("INSERT INTO item VALUES (300, 'text 17')").unwrap();
    wait_until(&mut copy, "SELECT count(*) = 1 FROM item WHERE id = 300");
    assert!(ask(&mut client, SEARCH).unwrap().contains(&"300".to_owned()));

    // The primary is lost. The same clients of the pool search in the meantime, and write after the promotion.
    e2e::run(Command::new("kill").args(["-QUIT", &primary.postmaster().to_string()]));
    assert_eq!(ask(&mut client, SEARCH).unwrap().len(), 5);
    copy.batch_execute("SELECT pg_promote()").unwrap();
    wait_until(&mut copy, "SELECT NOT pg_is_in_recovery()");
    ask(&mut client, "INSERT INTO item VALUES (301, 'text 17 again')").unwrap();
    let distance = "SELECT embedding <=> clip_embed_text(body, 'narrow') < 1e-6 FROM item WHERE id = 301";
    assert_eq!(ask(&mut client, distance).unwrap(), ["t"]);
    assert_eq!(ask(&mut client, SEARCH).unwrap().len(), 5);
}
