//! The comparison of the models of several servers.

use super::*;

#[test]
fn a_standby_without_the_model_is_found_before_a_failover() {
    let primary = Cluster::start();
    let mut client = primary.connect();
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text); CREATE ROLE operator LOGIN").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    e2e::let_call(&mut client, "operator");
    let conninfo =
        |cluster: &Cluster, user: &str| format!("host={} user={user} dbname=postgres", cluster.directory.display());
    let standby = primary.backup("standby", &[&format!("primary_conninfo = '{}'", conninfo(&primary, "postgres"))]);
    let own_models = format!("\nclip.model_path = '{}'\n", standby.models().display());
    let settings = standby.directory.join("data/postgresql.auto.conf");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + &own_models).unwrap();
    standby.add("wide");
    standby.restart();
    let check = |user: &str| {
        let mut pgclip = primary.pgclip();
        pgclip.args(["check", "--json"]);
        for cluster in [&primary, &standby] {
            pgclip.arg("--database").arg(conninfo(cluster, user));
        }
        pgclip.output().unwrap()
    };
    let states = |output: &Output| {
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output).1));
        let host = format!("host={} ", standby.directory.display());
        let own = rows.iter().filter(|row| row["server"].as_str().unwrap().starts_with(&host));
        own.map(|row| format!("{} {}", row["model"].as_str().unwrap(), row["state"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    for user in ["postgres", "operator"] {
        let output = check(user);
        assert_eq!(output.status.code(), Some(4), "{user}");
        assert_eq!(
            states(&output),
            ["bidirectional missing", "emoji missing", "fragile missing", "narrow missing", "wide ok"]
        );
        assert!(told(&output).1.contains("pgclip export"), "{}", told(&output).1);
    }

    // A model of the same name with another digest is another model.
    run(standby.pgclip().args(["add", "narrow", "--ignore-exif-orientation"]).arg(model("narrow")));
    run(standby.pgclip().args(["rm", "wide", "--force"]));
    run(standby.pgclip().args(["add", "wide", "--ignore-exif-orientation"]).arg(model("wide")));
    assert_eq!(
        states(&check("postgres")),
        ["bidirectional missing", "emoji missing", "fragile missing", "narrow another", "wide another"]
    );

    // After the models have been copied, the standby can take over.
    for name in ["bidirectional", "emoji", "fragile", "narrow", "wide"] {
        if standby.models().join(name).exists() {
            run(standby.pgclip().args(["rm", name, "--force"]));
        }
        let file = primary.directory.join(format!("{name}.tar"));
        run(primary.pgclip().args(["export", name]).arg(&file));
        run(standby.pgclip().args(["add", name]).arg(&file));
    }
    let output = check("operator");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output).1);
    assert_eq!(states(&output), ["bidirectional ok", "emoji ok", "fragile ok", "narrow ok", "wide ok"]);

    let ask = |database: &str| told(&primary.pgclip().args(["check", "--database", database]).output().unwrap());
    assert_eq!(told(&primary.pgclip().arg("check").output().unwrap()).0, 2, "no database");
    let (code, message) =
        ask(&format!("host={} user=postgres dbname=nowhere password=secret", primary.directory.display()));
    assert!(code == 1 && message.contains("does not exist") && !message.contains("secret"), "{code} {message}");
    client.batch_execute("CREATE DATABASE bare").unwrap();
    let (code, message) = ask(&format!("host={} user=postgres dbname=bare", primary.directory.display()));
    assert!(code == 1 && message.contains("does not have the extension pg_clip"), "{code} {message}");
}
