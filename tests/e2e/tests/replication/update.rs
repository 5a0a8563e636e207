//! Updates of the extension: from every released version, and to a version of the future.

use std::collections::BTreeSet;
use std::fs;

use e2e::{Cluster, Installation, root, run, wait_until};
use postgres::{Client, NoTls};

/// Lists the definitions of everything that belongs to the extension.
const OBJECTS: &str = "
    SELECT concat_ws(E'\\n', o.type, o.identity, obj_description(d.objid, d.classid::regclass::name),
        CASE d.classid WHEN 'pg_proc'::regclass THEN
                 pg_get_functiondef(d.objid) || (SELECT concat_ws(' ', p.proacl, p.procost, p.prorows) FROM pg_proc AS p WHERE p.oid = d.objid)
             WHEN 'pg_class'::regclass THEN
                 (SELECT concat_ws(' ', c.relkind, c.relacl, c.reloptions, pg_get_viewdef(c.oid)) FROM pg_class AS c WHERE c.oid = d.objid)
                 || (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                         pg_get_expr(e.adbin, e.adrelid), col_description(a.attrelid, a.attnum)), ', ' ORDER BY a.attnum)
                     FROM pg_attribute AS a LEFT JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
                     WHERE a.attrelid = d.objid AND a.attnum > 0 AND NOT a.attisdropped)
                 || (SELECT concat_ws(' ', array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)) FROM pg_constraint AS k WHERE k.conrelid = d.objid)
             WHEN 'pg_namespace'::regclass THEN (SELECT concat_ws(' ', n.nspacl) FROM pg_namespace AS n WHERE n.oid = d.objid)
        END)
    FROM pg_depend AS d, pg_extension AS e, pg_identify_object(d.classid, d.objid, d.objsubid) AS o
    WHERE d.refobjid = e.oid AND e.extname = 'pg_clip' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    UNION ALL
    SELECT 'dumped: ' || c.oid::regclass || ' ' || w.condition
    FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS w (relation, condition), pg_class AS c
    WHERE e.extname = 'pg_clip' AND c.oid = w.relation
    ORDER BY 1";

fn objects(client: &mut Client) -> Vec<String> {
    let rows = client.query(OBJECTS, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn database(cluster: &Cluster, name: &str) -> Client {
    cluster.connect().batch_execute(&format!("CREATE DATABASE \"{name}\"")).unwrap();
    cluster.config("postgres").dbname(name).connect(NoTls).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the versions that can be installed, according to their scripts.
fn versions() -> BTreeSet<String> {
    let names =
        fs::read_dir(root().join("sql")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let version = |name: String| Some(name.strip_prefix("pg_clip--")?.strip_suffix(".sql")?.to_owned());
    names.filter_map(version).filter(|version| !version.contains("--")).collect()
}

fn current_version() -> String {
    let control = read("pg_clip.control");
    control.lines().find_map(|line| line.strip_prefix("default_version = '")?.strip_suffix('\'')).unwrap().to_owned()
}

#[test]
fn the_script_is_made_of_its_parts() {
    let mut parts: Vec<_> =
        fs::read_dir(root().join("sql/parts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    let texts: Vec<_> = parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect();
    let script = read(&format!("sql/pg_clip--{}.sql", current_version()));
    assert!(texts.join("\n") == script, "the script is not what `make sql` makes of sql/parts");
}

#[test]
fn an_updated_extension_is_the_one_that_is_installed_afresh() {
    const NEXT: &str = "999.0.0";
    let installation = Installation::copy();
    let current = current_version();
    for entry in fs::read_dir(root().join("sql")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            fs::copy(&path, installation.extensions.join(path.file_name().unwrap())).unwrap();
        }
    }
    // The next version changes nothing.
    let write = |file: &str, text: &str| fs::write(installation.extensions.join(file), text).unwrap();
    write("pg_clip.control", &read("pg_clip.control").replace(&current, NEXT));
    write(&format!("pg_clip--{current}--{NEXT}.sql"), "");
    write(&format!("pg_clip--{NEXT}.sql"), &read(&format!("sql/pg_clip--{current}.sql")));

    let cluster = Cluster::start_of(installation.pg_config(), &[]);
    for target in [current.as_str(), NEXT] {
        let mut fresh = database(&cluster, &format!("fresh {target}"));
        fresh.batch_execute(&format!("CREATE EXTENSION pg_clip VERSION '{target}' CASCADE")).unwrap();
        let expected = objects(&mut fresh);
        assert!(expected.len() > 40, "{expected:#?}");
        for version in versions().into_iter().filter(|version| version != target) {
            let mut client = database(&cluster, &format!("{version} to {target}"));
            client.batch_execute(&format!("CREATE EXTENSION pg_clip VERSION '{version}' CASCADE")).unwrap();
            client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
            client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'queue')", &[]).unwrap();
            client.batch_execute("INSERT INTO item VALUES (1, 'before')").unwrap();
            wait_until(&mut client, "SELECT count(embedding) = 1 FROM item");
            client.batch_execute(&format!("ALTER EXTENSION pg_clip UPDATE TO '{target}'")).unwrap();
            // A second update does nothing.
            client.batch_execute(&format!("ALTER EXTENSION pg_clip UPDATE TO '{target}'")).unwrap();
            assert_eq!(objects(&mut client), expected, "from {version} to {target}");
            client.batch_execute("INSERT INTO item VALUES (2, 'after')").unwrap();
            wait_until(&mut client, "SELECT count(embedding) = 2 FROM item");
        }
    }
}

/// Released scripts are installed on servers: another text with the same version would make servers that differ.
#[test]
fn scripts_of_released_versions_are_as_they_were_released() {
    let frozen = read("sql/released.sha256");
    let names: Vec<&str> = frozen.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    if !names.is_empty() {
        run(std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "released.sha256"])
            .current_dir(root().join("sql")));
    }
    for version in versions().into_iter().filter(|version| *version != current_version()) {
        assert!(names.contains(&format!("pg_clip--{version}.sql").as_str()), "version {version} is not frozen");
    }
    // A release adds the script of this version to the list. Until then the script may change.
    let unreleased = read("CHANGELOG.md").contains(&format!("## {} (unreleased)", current_version()));
    assert_eq!(!unreleased, names.contains(&format!("pg_clip--{}.sql", current_version()).as_str()));
}
