//! Counts run as the owner of a table, whichever role asks for them. They must give that role nothing else.

use e2e::{Cluster, code, count};
use postgres::Client;

fn number(client: &mut Client, query: &str) -> Option<i64> {
    client.query(query, &[]).unwrap().first().and_then(|row| row.get(0))
}

#[test]
fn counts_run_no_function_of_the_caller() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser
        .batch_execute(
            "CREATE ROLE low LOGIN; CREATE ROLE alice LOGIN; CREATE SCHEMA lows AUTHORIZATION low; GRANT CREATE ON SCHEMA public TO alice, low;
             CREATE TABLE ran (role name); GRANT INSERT ON ran TO PUBLIC;
             CREATE FUNCTION calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN abs(-1); END';
             CREATE VIEW open_view AS SELECT 1 AS id, NULL::vector(3) AS embedding WHERE calls() > 0; GRANT SELECT ON open_view TO low;
             CREATE TABLE secret (id int, who name, embedding vector(3)); INSERT INTO secret SELECT i, CASE WHEN i < 4 THEN 'low' ELSE 'other' END, '[1,2,3]' FROM generate_series(1, 7) AS i;
             CREATE VIEW mine AS SELECT * FROM secret WHERE who = current_user; GRANT SELECT ON mine TO low",
        )
        .unwrap();
    cluster
        .connect_as_caller("alice")
        .batch_execute(
            "CREATE FUNCTION lim(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN abs(a) + 1; END';
             CREATE TABLE at (id int PRIMARY KEY, embedding vector(3)); CREATE INDEX ON at (id) WHERE id > lim(3); GRANT SELECT ON at TO low",
        )
        .unwrap();
    cluster
        .connect_as_caller("low")
        .batch_execute(
            "CREATE FUNCTION lows.abs(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN $1; END';
             GRANT USAGE ON SCHEMA lows TO PUBLIC",
        )
        .unwrap();
    let home = e2e::home();
    // A new session, because the server keeps the evaluated predicate of an index.
    let mut low = cluster.connect_as("low");
    low.batch_execute(&format!("SET search_path = lows, pg_catalog, public, {home}")).unwrap();
    for call in ["_clip_count_rows('at', NULL, 'embedding')", "_clip_is_filled('at', 'embedding', 'at')"] {
        assert_eq!(code(&mut low, &format!("SELECT * FROM {home}.{call}")), None, "{call}");
    }
    assert_eq!(count(&mut superuser, "SELECT count(*) FROM ran"), 0);
    // Views and catalogs of the server are not counted.
    for view in ["open_view", "mine", "pg_stats", "information_schema.tables"] {
        let counted = format!("SELECT rows FROM {home}._clip_count_rows('{view}', NULL, 'id')");
        assert_eq!(number(&mut low, &counted), None, "{view}");
        assert_eq!(
            number(&mut low, &format!("SELECT 1::bigint WHERE {home}._clip_is_filled('{view}', 'id', '{view}')")),
            None
        );
    }
    assert_eq!(count(&mut superuser, "SELECT count(*) FROM ran WHERE role <> 'low'"), 0);
}

/// The functions of a partition's owner do not run as the owner of the partitioned table.
#[test]
fn a_partition_of_another_role_is_not_counted_with_its_root() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser
        .batch_execute(
            "CREATE ROLE low LOGIN; GRANT CREATE ON SCHEMA public TO low; CREATE TABLE ran (role name); GRANT INSERT ON ran TO PUBLIC;
             CREATE TABLE pq (id int, title text) PARTITION BY RANGE (id); CREATE TABLE pq1 PARTITION OF pq FOR VALUES FROM (0) TO (10);
             SELECT clip_auto_embed('pq', 'title', model => 'narrow'); GRANT SELECT ON pq TO low; ALTER TABLE pq1 OWNER TO low",
        )
        .unwrap();
    cluster
        .connect_as_caller("low")
        .batch_execute(
            "CREATE FUNCTION notes() RETURNS int VOLATILE LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 1; END';
             CREATE FUNCTION lh(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN public.notes(); END';
             CREATE INDEX ON pq1 (id) WHERE id > lh(3)",
        )
        .unwrap();
    superuser.batch_execute("DELETE FROM ran").unwrap();
    let home = e2e::home();
    for role in ["low", "postgres"] {
        let mut client = cluster.connect_as_caller(role);
        client.batch_execute(&format!("SELECT {home}._clip_is_filled('pq', 'embedding', 'pq'), {home}._clip_is_filled('pq1', 'embedding', 'pq')")).unwrap();
        client.batch_execute(&format!("SELECT * FROM {home}._clip_count_rows('pq', 'title', 'embedding')")).unwrap();
        assert_eq!(
            number(&mut client, "SELECT rows FROM clip_auto_embed_status WHERE relation = 'pq'"),
            None,
            "{role}"
        );
    }
    assert_eq!(count(&mut superuser, "SELECT count(*) FROM ran WHERE role <> 'low'"), 0);
}
