//! Names: of columns that are renamed or swapped, and of triggers.

use e2e::{Cluster, code, count};
use postgres::Client;
use postgres::error::SqlState;

use crate::{attach, stale};

/// Names of columns that are renamed, swapped, or end as the names of triggers do.
#[test]
fn a_column_never_loses_its_triggers_to_another() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let fresh = || {
        let mut client = cluster.connect();
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, a text, b text)").unwrap();
    };
    let holds = |client: &mut Client, columns: &[(&str, &str)], what: &str| {
        client
            .batch_execute(
                "INSERT INTO t (id, a, b) VALUES (1, 'a cat', 'a dog'); UPDATE t SET a = 'a tree', b = 'a car'",
            )
            .unwrap();
        for (source, target) in columns {
            assert_eq!(stale(client, "t", source, target), 0, "{what}: {target}");
            assert_eq!(count(client, &format!("SELECT count({target}) FROM t")), 1, "{what}: {target}");
        }
    };
    // The name of a renamed column is used again.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("ALTER TABLE t RENAME embedding TO emb_a").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), None);
    holds(&mut client, &[("a", "emb_a"), ("b", "embedding")], "renamed");
    // Detaching the one leaves the other.
    client.batch_execute("SELECT clip_auto_embed_drop('t'); DELETE FROM t").unwrap();
    holds(&mut client, &[("a", "emb_a")], "dropped");
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("ALTER TABLE t RENAME embedding TO emb_a").unwrap();
    assert_eq!(code(&mut client, "SELECT clip_auto_embed_drop('t')"), Some(SqlState::UNDEFINED_OBJECT));
    holds(&mut client, &[("a", "emb_a")], "not dropped");
    // The name of the column that a re-embedding builds.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'wide')").unwrap();
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'narrow')").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding_reembed", ""), None);
    holds(&mut client, &[("a", "embedding"), ("b", "embedding_reembed")], "re-embedded");
    // Names that end as those of the other triggers do, in both orders.
    for ending in ["insert", "update", "check"] {
        for targets in [[format!("v_{ending}"), "v".into()], ["v".into(), format!("v_{ending}")]] {
            fresh();
            for (target, source) in targets.iter().zip(["a", "b"]) {
                assert_eq!(attach(&mut client, "t", source, target, ", mode => 'statement'"), None, "{targets:?}");
            }
            client
                .batch_execute(
                    "CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                     CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
                )
                .unwrap();
            holds(&mut client, &[("a", &targets[0]), ("b", &targets[1])], &format!("{targets:?}"));
            client.batch_execute("DROP TRIGGER zzz ON t").unwrap();
            client
                .batch_execute(&format!("SELECT clip_auto_embed_drop('t', '{}'); DELETE FROM t", targets[0]))
                .unwrap();
            holds(&mut client, &[("b", &targets[1])], &format!("{targets:?}, the first dropped"));
        }
    }
    // A model that is installed under a second name, too.
    cluster.add_emoji("first", &[]);
    cluster.add_emoji("second", &[]);
    fresh();
    client.execute("SELECT clip_auto_embed('t', 'a', model => 'first', create_index => false)", &[]).unwrap();
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'second')").unwrap();
    let query = "SELECT count(*) FROM clip_auto_embed_status WHERE model = 'second' AND model_state = 'ok'";
    assert_eq!(count(&mut client, query), 1);
    // A renamed trigger.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ", mode => 'statement'"), None);
    client.batch_execute("ALTER TRIGGER zz_clip_embedding ON t RENAME TO zz_other").unwrap();
    holds(&mut client, &[("a", "embedding")], "a renamed trigger");
    assert_eq!(attach(&mut client, "t", "a", "embedding", ", mode => 'row'"), None);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"),
        1
    );
}
