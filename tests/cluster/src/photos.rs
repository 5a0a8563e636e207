//! A table of photos over several servers: the first one has the partitioned table and a partition of its own.

use std::thread;

use e2e::pg_config;
use postgres::Client;

use crate::Network;

/// The settings of a remote session, as the guide recommends them.
pub const WIDTH: &str = "-c hnsw.ef_search=400 -c hnsw.iterative_scan=relaxed_order";

/// The statements that make the table of a server.
const TABLE: &str = "CREATE TABLE photo_own (id int NOT NULL, region int NOT NULL, title text, shop int,
     words tsvector, embedding vector(32))";

impl Network {
    /// Makes the table on all servers. The other servers have `rows` rows with random vectors each, and an index.
    pub fn make_photos(&self, rows: i32, options: &str) {
        thread::scope(|scope| {
            for number in 1..self.servers().len() {
                scope.spawn(move || {
                    let mut client = self.connect(number);
                    client.batch_execute(&photos(number, rows)).unwrap();
                });
            }
        });
        let mut hub = self.connect(0);
        hub.batch_execute(
            "CREATE EXTENSION postgres_fdw;
             CREATE TABLE photo (id int NOT NULL, region int NOT NULL, title text, shop int,
               words tsvector, embedding vector(32)) PARTITION BY LIST (region);
             CREATE TABLE photo_0 PARTITION OF photo FOR VALUES IN (0)",
        )
        .unwrap();
        for number in 1..self.servers().len() {
            hub.batch_execute(&format!(
                "CREATE SERVER server_{number} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', port '5432', dbname 'postgres',
                   extensions 'vector', async_capable 'true', connect_timeout '2', tcp_user_timeout '2000', options '{options}');
                 CREATE USER MAPPING FOR PUBLIC SERVER server_{number} OPTIONS (user 'photo_reader', password 'secret');
                 CREATE FOREIGN TABLE photo_{number} PARTITION OF photo FOR VALUES IN ({number}) SERVER server_{number} OPTIONS (table_name 'photo_own')",
                self.address(number)
            ))
            .unwrap();
        }
        hub.execute("SELECT clip_auto_embed('photo', 'title', model => 'narrow')", &[]).unwrap();
    }

    /// Returns the ids and distances of the k nearest rows of all servers, without any index.
    pub fn exact(&self, query: &str, k: usize, condition: &str) -> Vec<(i32, f64)> {
        let statement = format!(
            "SELECT id, (embedding <=> '{query}') + 0 FROM photo_own WHERE embedding IS NOT NULL AND {condition} ORDER BY 2 LIMIT {k}"
        );
        let mut all: Vec<(i32, f64)> = Vec::new();
        for number in 1..self.servers().len() {
            let rows = self.connect(number).query(&statement, &[]).unwrap();
            all.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        }
        let own = statement.replace("photo_own", "photo_0");
        all.extend(self.connect(0).query(&own, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))));
        all.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        all.truncate(k);
        all
    }
}

/// Returns the statements that make and fill the table of another server.
fn photos(number: usize, rows: i32) -> String {
    format!(
        "{TABLE};
         ALTER TABLE photo_own ADD PRIMARY KEY (id);
         SELECT clip_auto_embed('photo_own', 'title', model => 'narrow', on_vector => 'keep', create_index => false);
         SELECT setseed(0.{number});
         INSERT INTO photo_own (id, region, shop, embedding)
           SELECT {number} * 1000000 + g, {number}, g % 100, l2_normalize(array_agg(random() - 0.5)::real[]::vector)
             FROM generate_series(1, {rows}) AS g, generate_series(1, 32) GROUP BY g;
         SELECT clip_auto_embed('photo_own', 'title', model => 'narrow');
         CREATE ROLE photo_reader LOGIN PASSWORD 'secret';
         GRANT SELECT, INSERT, UPDATE, DELETE ON photo_own TO photo_reader;
         ANALYZE photo_own"
    )
}

/// Returns a random vector of length 1.
pub fn random_vector(client: &mut Client) -> String {
    let question = "SELECT l2_normalize(array_agg(random() - 0.5)::real[]::vector)::text FROM generate_series(1, 32)";
    client.query_one(question, &[]).unwrap().get(0)
}

/// Returns true if the tested server has postgres_fdw.
pub fn require_fdw() {
    let library = std::path::Path::new(&pg_config("--pkglibdir")).join("postgres_fdw.so");
    assert!(library.exists(), "postgres_fdw is missing. On Debian it is part of the package of the server");
}
