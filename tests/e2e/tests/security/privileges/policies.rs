//! Policies, which are functions of the owners of tables.

use e2e::count;

use super::*;

/// A policy is a function of the table's owner, which runs with the privileges of the role that reads the table.
#[test]
fn the_status_view_runs_no_policies_of_other_roles() {
    let cluster = Cluster::start();
    cluster
        .connect()
        .batch_execute(
            "CREATE ROLE seller LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_read_all_data TO monitor; GRANT CREATE ON SCHEMA public TO seller;
             CREATE TABLE ran_as (role name); GRANT INSERT ON ran_as TO PUBLIC",
        )
        .unwrap();
    let mut seller = cluster.connect_as_caller("seller");
    seller
        .batch_execute(
            "CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran_as VALUES (current_user); RETURN true; END';
             CREATE TABLE t (id int PRIMARY KEY, title text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             SELECT clip_auto_embed('t', 'title', model => 'narrow');
             CREATE POLICY spy ON t USING (spy()); INSERT INTO t VALUES (1, 'a cat')",
        )
        .unwrap();
    let query =
        "SELECT count(*), count(rows), count(pending), count(failed) FROM clip_auto_embed_status WHERE relation = 't'";
    let counted = |client: &mut Client| {
        let row = client.query_one(query, &[]).unwrap();
        [0, 1, 2, 3].map(|column| row.get::<_, i64>(column))
    };
    assert_eq!(counted(&mut seller), [1, 1, 1, 1]);
    let mut monitor = cluster.connect_as_caller("monitor");
    assert_eq!(counted(&mut monitor), [1, 0, 0, 0]);
    monitor.batch_execute("TABLE clip_failures; TABLE clip_progress; TABLE clip_models").unwrap();
    assert_eq!(count(&mut cluster.connect(), "SELECT count(*) FROM ran_as WHERE role <> 'seller'"), 0);
    // The role that reads the table itself runs the policy.
    monitor.batch_execute("TABLE t").unwrap();
    assert_eq!(count(&mut cluster.connect(), "SELECT count(*) FROM ran_as WHERE role = 'monitor'"), 1);
}
