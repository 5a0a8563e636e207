//! PgBouncer in transaction mode: each transaction of a client may run in another session.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Cluster, picture};
use postgres::{Client, Config, NoTls};

/// The pooler. Dropping it ends the process.
struct Pool(Child);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn clients_of_a_pool_share_sessions_and_see_their_own() {
    const CLIENTS: i32 = 12;
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id serial PRIMARY KEY, client int, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    let folder = cluster.directory.join("pool");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.display();
    std::fs::write(folder.join("users"), "\"postgres\" \"\"\n").unwrap();
    let settings = format!(
        "[databases]\npostgres = host={} port=5432 user=postgres\n[pgbouncer]\nunix_socket_dir = {path}\nlisten_port = 6432\nauth_type = any\n\
         auth_file = {path}/users\npool_mode = transaction\ndefault_pool_size = 3\nlogfile = {path}/log\npidfile = {path}/pid\n",
        cluster.directory.display()
    );
    std::fs::write(folder.join("settings"), settings).unwrap();
    // Neither the pooler nor the server runs as root.
    e2e::run(Command::new("chmod").args(["-R", "a+rwX"]).arg(&folder));
    e2e::run(Command::new("chmod").arg("a+x").arg(&cluster.directory));
    let owner = cluster.owner();
    let _pool = Pool(
        Command::new("setpriv")
            .args(["--reuid", &owner.to_string(), "pgbouncer"])
            .arg(folder.join("settings"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is one of the packages that `make test-all` installs"),
    );
    let mut config = Config::new();
    config.host_path(&folder).port(6432).user("postgres").dbname("postgres");
    let connect = || -> Client {
        let begun = Instant::now();
        loop {
            match config.connect(NoTls) {
                Ok(client) => return client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    };
    drop(connect());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = connect();
                let (model, dimensions) = if number % 2 == 0 { ("narrow", 32) } else { ("emoji", 128) };
                for round in 0..20 {
                    // Uses no prepared statements of the protocol: pools of this mode do not support them.
                    let mut transaction = client.transaction().unwrap();
                    transaction.batch_execute(&format!("SET LOCAL clip.default_model = '{model}'")).unwrap();
                    let rows = transaction
                        .simple_query(&format!("SELECT vector_dims(clip_embed_text('text {round}'))"))
                        .unwrap();
                    let found = rows.iter().find_map(|row| match row {
                        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                        _ => None,
                    });
                    assert_eq!(found.as_deref(), Some(dimensions.to_string().as_str()));
                    transaction
                        .batch_execute(&format!("INSERT INTO item (client, body) VALUES ({number}, 'text {round}')"))
                        .unwrap();
                    transaction.commit().unwrap();
                }
            });
        }
    });
    let wrong =
        "SELECT count(*) FROM item WHERE embedding IS NULL OR embedding <=> clip_embed_text(body, 'narrow') > 1e-6";
    assert_eq!(client.query_one(wrong, &[]).unwrap().get::<_, i64>(0), 0);
    let per_client = "SELECT count(*) FROM (SELECT FROM item GROUP BY client HAVING count(*) = 20) AS c";
    assert_eq!(client.query_one(per_client, &[]).unwrap().get::<_, i64>(0), i64::from(CLIENTS));
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    assert!(client.query_one(sessions, &[]).unwrap().get::<_, i64>(0) <= 4, "the pool was not used");
    client.execute("SELECT clip_embed_image($1, 'narrow')", &[&picture("grey.png")]).unwrap();
}
