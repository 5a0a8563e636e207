//! Calls all functions with unusual arguments. Each call returns NULL or raises an expected error, and never crashes.
//! SQLsmith does not call functions that return sets.

use e2e::{Cluster, sqlstate};
use postgres::error::SqlState;
use postgres::{Client, Error};

const CALLS: usize = 10_000;

/// A function or procedure, and the types of its arguments.
struct Routine {
    is_procedure: bool,
    name: String,
    kinds: Vec<String>,
}

/// Returns all routines that a user can call.
fn routines(client: &mut Client) -> Vec<Routine> {
    let query = "SELECT p.prokind = 'p', p.oid::regproc::text,
               ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n)
          FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid
          JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
           AND e.extname = 'pg_clip' AND p.prorettype <> 'trigger'::regtype AND p.prokind IN ('f', 'p')
         ORDER BY 2, 3";
    let routine = |row: postgres::Row| Routine { is_procedure: row.get(0), name: row.get(1), kinds: row.get(2) };
    let routines: Vec<_> = client.query(query, &[]).unwrap().into_iter().map(routine).collect();
    assert!(routines.len() > 60, "{}", routines.len());
    routines
}

impl Routine {
    fn call(&self, arguments: &[String]) -> String {
        let verb = if self.is_procedure { "CALL" } else { "SELECT" };
        format!("{verb} {}({})", self.name, arguments.join(", "))
    }
}

/// Returns values of a type. The first one is plausible.
fn values(kind: &str) -> &'static [&'static str] {
    match kind {
        "text" => &[
            "'emoji'",
            "''",
            "'a cat'",
            "'item'",
            "'body'",
            "'both'",
            "repeat('x', 5000)",
            "E'\\u00e9'",
            "'%s%1$I'",
            "'{}'",
            "'true'",
            "(SELECT digest FROM clip_models WHERE name = 'emoji')",
            "'1'",
            "'embedding'",
            "'id = 1'",
            "'queue'",
        ],
        "name" => &["'embedding'::name", "''::name", "'body'::name", "'id'::name", "repeat('n', 63)::name"],
        "bytea" => &["'x'::bytea", "''::bytea", "'\\x89504e470d0a1a0a'::bytea", "'\\xffd8ffe0'::bytea"],
        "boolean" => &["false", "true"],
        "integer" => &["1", "0", "-1", "2147483647", "-2147483648", "100"],
        "bigint" => &["1::bigint", "0::bigint", "-1::bigint", "9223372036854775807", "(-9223372036854775808)"],
        "real" => &["1::real", "0::real", "'NaN'::real", "'Infinity'::real", "'1e30'::real"],
        "double precision" => {
            &["0.5::float8", "0::float8", "'NaN'::float8", "'-Infinity'::float8", "1e300::float8", "-1::float8"]
        }
        "vector" => &[
            "'[1,0]'::vector",
            "'[0]'::vector",
            "(SELECT embedding FROM item LIMIT 1)",
            "('[' || repeat('0,', 15999) || '1]')::vector",
        ],
        "regclass" => &[
            "'item'::regclass",
            "0::regclass",
            "99999999::oid::regclass",
            "'pg_class'::regclass",
            "'item_pkey'::regclass",
            "'seen'::regclass",
            "'parted'::regclass",
        ],
        "regtype" => &["'item'::regtype", "'int'::regtype", "0::regtype", "99999999::oid::regtype"],
        "text[]" => &[
            "'{a,b}'::text[]",
            "'{}'::text[]",
            "'{NULL}'::text[]",
            "'{{a,b},{c,d}}'::text[]",
            "'[5:6]={a,b}'::text[]",
            "ARRAY['a photo of {}']",
            "ARRAY[repeat('{}', 3)]",
        ],
        "bytea[]" => &["ARRAY['x'::bytea]", "'{}'::bytea[]", "ARRAY[NULL::bytea]", "ARRAY[ARRAY['x'::bytea, 'y']]"],
        "vector[]" => &[
            "ARRAY['[1,0]'::vector]",
            "'{}'::vector[]",
            "ARRAY[NULL::vector]",
            "ARRAY['[1]'::vector, '[1,2]']",
            "ARRAY[ARRAY['[1,0]'::vector], ARRAY['[1,0]'::vector]]",
        ],
        "real[]" => &[
            "ARRAY[1]::real[]",
            "'{}'::real[]",
            "ARRAY[NULL]::real[]",
            "ARRAY['NaN']::real[]",
            "'{{1,2},{3,4}}'::real[]",
            "'[2:3]={1,2}'::real[]",
        ],
        "jsonb" => {
            &["'{\"id\": 1}'::jsonb", "'{}'::jsonb", "'null'::jsonb", "'[1, 2]'::jsonb", "'{\"id\": null}'::jsonb"]
        }
        "jsonb[]" => &["ARRAY['{\"id\": 1}'::jsonb]", "'{}'::jsonb[]", "ARRAY[NULL]::jsonb[]", "ARRAY['1'::jsonb]"],
        "tid" => &["'(0,1)'::tid", "'(4294967295,65535)'::tid"],
        _ => &[],
    }
}

/// Returns a NULL of a type.
fn null(kind: &str) -> String {
    format!("NULL::{kind}")
}

fn some(kind: &str, choose: impl FnOnce(usize) -> usize) -> String {
    let values = values(kind);
    if values.is_empty() { null(kind) } else { values[choose(values.len())].into() }
}

fn start() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, body text, picture bytea);
             INSERT INTO item VALUES (1, 'x', NULL), (2, 'y', 'broken');
             SELECT clip_auto_embed('item', 'body', 'embedding', model => 'emoji');
             CREATE VIEW seen AS SELECT * FROM item;
             CREATE TABLE parted (id int, body text, embedding vector) PARTITION BY RANGE (id);
             CREATE ROLE plain LOGIN; GRANT ALL ON item, seen, parted TO plain",
        )
        .unwrap();
    (cluster, client)
}

/// Records an error that is not among the expected ones.
fn try_call(client: &mut Client, call: &str, unexpected: &mut Vec<String>) {
    let is_unexpected = |error: &Error| sqlstate(error) == &SqlState::INTERNAL_ERROR;
    if let Err(error) = client.simple_query(call).map(drop)
        && is_unexpected(&error)
    {
        unexpected.push(format!("{call}: {error}"));
    }
}

#[test]
fn no_function_crashes_on_null() {
    let (cluster, mut client) = start();
    client.batch_execute("SET statement_timeout = '5s'").unwrap();
    let (mut calls, mut unexpected) = (0, Vec::new());
    for routine in routines(&mut client) {
        let nulls: Vec<String> = routine.kinds.iter().map(|kind| null(kind)).collect();
        let mut attempts = vec![nulls.clone()];
        for place in 0..nulls.len() {
            let mut arguments: Vec<String> = routine.kinds.iter().map(|kind| some(kind, |_| 0)).collect();
            arguments[place] = nulls[place].clone();
            attempts.push(arguments);
        }
        for arguments in attempts {
            try_call(&mut client, &routine.call(&arguments), &mut unexpected);
            calls += 1;
        }
    }
    assert_eq!(unexpected, Vec::<String>::new());
    assert!(calls > 200, "{calls}");
    cluster.assert_no_crash();
}

#[test]
fn no_function_crashes_on_odd_values() {
    let (cluster, mut client) = start();
    let routines = routines(&mut client);
    let mut plain = cluster.connect_as_caller("plain");
    for client in [&mut client, &mut plain] {
        client.batch_execute("SET statement_timeout = '2s'; SET lock_timeout = '1s'").unwrap();
    }
    // The same calls in each run (Knuth's linear congruential generator, its high bits).
    let mut state = 1_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut unexpected = Vec::new();
    for number in 0..CALLS {
        let routine = &routines[below(routines.len())];
        let arguments: Vec<String> =
            routine.kinds.iter().map(|kind| if below(12) == 0 { null(kind) } else { some(kind, &mut below) }).collect();
        let client = if number % 2 == 0 { &mut client } else { &mut plain };
        try_call(client, &routine.call(&arguments), &mut unexpected);
    }
    assert_eq!(unexpected, Vec::<String>::new());
    cluster.assert_no_crash();
    client.batch_execute("SELECT clip_embed_text('still here', 'emoji')").unwrap();
}

/// A superuser can cast bytes to a vector, and a damaged page has the same effect.
#[test]
fn a_vector_of_another_size_than_it_claims_is_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE CAST (bytea AS vector) WITHOUT FUNCTION").unwrap();
    let vector = |dimensions: i16, unused: i16, elements: usize| {
        let mut bytes = [dimensions.to_le_bytes(), unused.to_le_bytes()].concat();
        bytes.extend((0..elements).flat_map(|_| 1_f32.to_le_bytes()));
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("('\\x{digits}'::bytea)::vector")
    };
    let good = vector(2, 0, 2);
    for call in [
        |vector: &str, good: &str| format!("clip_probabilities({vector}, ARRAY[{good}])"),
        |vector: &str, good: &str| format!("clip_probabilities({good}, ARRAY[{vector}])"),
        |vector: &str, _: &str| format!("clip_blend(ARRAY[{vector}])"),
        |vector: &str, good: &str| format!("clip_rotate({good}, {vector}, 2)"),
        |vector: &str, good: &str| format!("clip_rotate({vector}, {good}, 2)"),
        |vector: &str, _: &str| format!("clip_classify({vector}, '{{a,b}}', model => 'emoji')"),
    ] {
        for bad in [
            vector(16_000, 0, 2),
            vector(-1, 0, 2),
            vector(0, 0, 0),
            vector(2, 1, 2),
            vector(1, 0, 2),
            "('\\x'::bytea)::vector".into(),
        ] {
            assert_eq!(
                e2e::code(&mut client, &format!("SELECT {}", call(&bad, &good))),
                Some(SqlState::DATA_CORRUPTED),
                "{bad}"
            );
        }
        let error = e2e::code(&mut client, &format!("SELECT {}", call(&good, &good)));
        assert_ne!(error, Some(SqlState::DATA_CORRUPTED));
    }
    cluster.assert_no_crash();
}
