//! examples/sqlalchemy: an application that uses an ORM and migrations, and writes its rows without any knowledge of
//! pg_clip.

use std::io::Write;
use std::process::Command;

use e2e::{Cluster, root, run, wait_until};

#[test]
fn an_application_behind_sqlalchemy_searches_what_it_inserts() {
    let python = root().join("target/python-orm");
    let example = root().join("examples/sqlalchemy");
    let requirements = example.join("requirements.txt");
    run(Command::new(root().join("scripts/dev/environment.sh")).arg(&python).arg(requirements));
    let cluster = Cluster::start();
    let url = format!("postgresql+psycopg://postgres@/postgres?host={}", cluster.directory.display());
    let call = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(python.join("bin").join(program));
        command.current_dir(&example).env("DATABASE_URL", &url).env("PYTHONDONTWRITEBYTECODE", "1").args(arguments);
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    let emoji = root().join("examples/emoji.tsv").display().to_string();
    // The application had photos before it had a search.
    call("alembic", &["upgrade", "0001"]);
    let mut client = cluster.connect();
    let text = std::fs::read_to_string(&emoji).unwrap();
    let (old, new): (Vec<_>, Vec<_>) = text.split_inclusive('\n').enumerate().partition(|(number, _)| number % 4 == 0);
    let mut copy = client.copy_in("COPY photo (title, picture) FROM STDIN").unwrap();
    old.iter().for_each(|(_, line)| copy.write_all(line.as_bytes()).unwrap());
    copy.finish().unwrap();
    let rest = cluster.directory.join("rest.tsv");
    std::fs::write(&rest, new.into_iter().map(|(_, line)| line).collect::<String>()).unwrap();
    call("alembic", &["upgrade", "head"]);
    // The models describe the objects of the migration, including the index.
    call("alembic", &["check"]);
    call("python", &["app.py", "add", rest.to_str().unwrap()]);
    let instruments = "musical keyboard\nsaxophone\ntrumpet\nviolin\nguitar\n";
    assert_eq!(call("python", &["app.py", "find", "musical instrument"]), instruments);
    call("python", &["check.py", &emoji]);
    assert_eq!(call("python", &["app.py", "find", "musical instrument"]), instruments);
    // The same application, with a worker that embeds.
    client.execute("SELECT clip_auto_embed('photo', 'picture', mode => 'queue')", &[]).unwrap();
    client.batch_execute("DELETE FROM photo").unwrap();
    call("python", &["app.py", "add", &emoji]);
    wait_until(&mut client, "SELECT count(*) = 320 FROM photo WHERE embedding IS NOT NULL");
    assert_eq!(call("python", &["app.py", "find", "musical instrument"]), instruments);
    drop(client);
    call("alembic", &["downgrade", "base"]);
    let mut client = cluster.connect();
    let left = client.query_one("SELECT count(*) FROM clip_auto_embed_status", &[]).unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}
