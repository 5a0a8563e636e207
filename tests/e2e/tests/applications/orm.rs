//! examples/sqlalchemy: the checks that the contract of all examples does not have. The application had rows before it had
//! a search, and the ORM reads the embeddings.

use std::io::Write;
use std::process::Command;

use e2e::{Cluster, count, root, run};

const SETTINGS: &str = "ALTER DATABASE shop SET search_path = \"$user\", public, clip;
    ALTER DATABASE shop SET hnsw.iterative_scan = strict_order; ALTER DATABASE shop SET hnsw.ef_search = 100";
const EXTENSIONS: &str = "CREATE EXTENSION vector; CREATE SCHEMA clip; CREATE EXTENSION pg_clip SCHEMA clip";

#[test]
fn an_application_behind_sqlalchemy_searches_what_it_inserts() {
    let python = root().join("target/python-orm");
    let example = root().join("examples/sqlalchemy");
    let requirements = example.join("requirements.txt");
    run(Command::new(root().join("scripts/dev/environment.sh")).arg(&python).arg(requirements));
    let cluster = Cluster::start();
    cluster.connect().batch_execute("CREATE DATABASE shop").unwrap();
    cluster.connect().batch_execute(SETTINGS).unwrap();
    let connect = || cluster.config("postgres").dbname("shop").connect(postgres::NoTls).unwrap();
    connect().batch_execute(EXTENSIONS).unwrap();
    let url = format!("postgresql://postgres@/shop?host={}", cluster.directory.display());
    let call = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(python.join("bin").join(program));
        command.current_dir(&example).env("DATABASE_URL", &url).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.env("PYTHONPATH", &example).args(arguments).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    // The application had products before it had a search.
    call("alembic", &["upgrade", "0001"]);
    let mut client = connect();
    client.batch_execute("CREATE TEMPORARY TABLE sample (title text, image bytea)").unwrap();
    let mut copy = client.copy_in("COPY sample FROM STDIN").unwrap();
    copy.write_all(&std::fs::read(root().join("examples/emoji.tsv")).unwrap()).unwrap();
    copy.finish().unwrap();
    let old = "INSERT INTO product (title, image) SELECT title, image FROM sample WHERE length(title) % 4 = 0";
    client.batch_execute(old).unwrap();
    call("alembic", &["upgrade", "head"]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM product WHERE embedding IS NULL"), 0);
    let rest = "INSERT INTO product (title, image) SELECT title, image FROM sample WHERE length(title) % 4 <> 0";
    client.batch_execute(rest).unwrap();
    let instruments = "musical keyboard\nsaxophone\ntrumpet\nviolin\nguitar\n";
    assert_eq!(call("python", &["app.py", "find", "musical instrument", "1"]), instruments);
    call("python", &[root().join("tests/e2e/tests/applications/orm.py").to_str().unwrap()]);
    assert_eq!(call("python", &["app.py", "find", "musical instrument", "1"]), instruments);
    call("alembic", &["check"]);
    drop(client);
    call("alembic", &["downgrade", "base"]);
    let mut client = connect();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_auto_embed_status"), 0);
}
