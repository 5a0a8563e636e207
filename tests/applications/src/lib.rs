//! A server for the applications in examples/: a database `shop` whose owner is an ordinary role, the sample images as files,
//! and a copy of an application.

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Cluster, root, run};
use postgres::{Client, NoTls};

/// A server with an empty database `shop`, as docs/guides/applications.md recommends, and the sample images as files.
pub struct Shop {
    pub cluster: Cluster,
    /// The address of the database for its owner, over TCP.
    pub url: String,
    /// Titles and paths of the sample images, in the order of the titles.
    pub images: Vec<(String, PathBuf)>,
}

impl Shop {
    pub fn open() -> Self {
        let cluster = Cluster::start_with(&["shared_preload_libraries = 'pg_clip'"]);
        let mut client = cluster.connect();
        client.batch_execute("CREATE ROLE shop LOGIN PASSWORD 'shop'").unwrap();
        for statement in [
            "CREATE DATABASE shop OWNER shop",
            "ALTER DATABASE shop SET search_path = \"$user\", public, clip",
            "ALTER DATABASE shop SET hnsw.iterative_scan = strict_order",
            "ALTER DATABASE shop SET hnsw.ef_search = 100",
        ] {
            client.batch_execute(statement).unwrap();
        }
        let mut config = cluster.config("postgres");
        let mut client = config.dbname("shop").connect(NoTls).unwrap();
        client
            .batch_execute(
                "CREATE EXTENSION vector; CREATE SCHEMA clip; CREATE EXTENSION pg_clip SCHEMA clip; GRANT USAGE ON SCHEMA clip TO shop;
                 CREATE TABLE clip.sample (title text, image bytea)",
            )
            .unwrap();
        let mut copy = client.copy_in("COPY clip.sample FROM STDIN").unwrap();
        copy.write_all(&std::fs::read(root().join("examples/emoji.tsv")).unwrap()).unwrap();
        copy.finish().unwrap();
        let folder = cluster.directory.join("images");
        std::fs::create_dir(&folder).unwrap();
        let rows = client.query("SELECT title, image FROM clip.sample ORDER BY title", &[]).unwrap();
        let images = rows.iter().enumerate().map(|(number, row)| {
            let path = folder.join(format!("{number}.png"));
            std::fs::write(&path, row.get::<_, Vec<u8>>(1)).unwrap();
            (row.get(0), path)
        });
        let images = images.collect();
        client.batch_execute("DROP TABLE clip.sample").unwrap();
        let url = format!("postgresql://shop:shop@127.0.0.1:{}/shop", forward(&cluster));
        Self { cluster, url, images }
    }

    /// Connects to the database as a superuser.
    pub fn connect(&self) -> Client {
        self.cluster.config("postgres").dbname("shop").connect(NoTls).unwrap()
    }

    /// Returns the path of a sample image.
    pub fn image(&self, title: &str) -> &Path {
        &self.images.iter().find(|(name, _)| name == title).unwrap().1
    }

    /// Writes a list of products for the command `load`: title, price and path of every image.
    pub fn list(&self) -> PathBuf {
        let lines = self
            .images
            .iter()
            .enumerate()
            .map(|(number, (title, path))| format!("{title}\t{}\t{}\n", number % 100, path.display()));
        let path = self.cluster.directory.join("products.tsv");
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path
    }
}

/// Forwards a TCP port to the server's socket. The test servers listen on no port of their own.
fn forward(cluster: &Cluster) -> u16 {
    let socket = cluster.socket();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(&socket) else { continue };
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                std::io::copy(&mut &client, &mut &server_too).ok();
                server_too.shutdown(Shutdown::Write).ok();
            });
            std::thread::spawn(move || {
                std::io::copy(&mut &server, &mut &client_too).ok();
                client_too.shutdown(Shutdown::Write).ok();
            });
        }
    });
    port
}

/// A copy of an application, in a directory that keeps what it has installed or built.
pub struct Application {
    directory: PathBuf,
    url: String,
}

impl Application {
    /// Copies an example into target/applications. Its installed packages stay from an earlier run.
    pub fn copy(name: &str, url: &str) -> Self {
        let applications = root().join("target/applications");
        std::fs::create_dir_all(&applications).unwrap();
        std::fs::copy(root().join("examples/emoji.tsv"), applications.join("emoji.tsv")).unwrap();
        Self::copy_to(&applications.join(name), name, url)
    }

    /// Copies an example into a directory.
    pub fn copy_to(directory: &Path, name: &str, url: &str) -> Self {
        let directory = directory.to_owned();
        std::fs::create_dir_all(&directory).unwrap();
        let files = Command::new("git")
            .current_dir(root())
            .args(["ls-files", "-z", "--cached", "--others"])
            .args(["--exclude-standard", "--"])
            .arg(format!("examples/{name}"))
            .output()
            .unwrap();
        let files = String::from_utf8(files.stdout).unwrap();
        let files: Vec<_> = files.split_terminator('\0').filter(|file| root().join(file).exists()).collect();
        assert!(!files.is_empty(), "examples/{name} has no files");
        for file in files {
            let target = directory.join(Path::new(file).strip_prefix(Path::new("examples").join(name)).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(root().join(file), target).unwrap();
        }
        Self { directory, url: url.to_owned() }
    }

    /// Returns a command in the directory of the application.
    pub fn command(&self, program: &str) -> Command {
        self.prepared(Command::new(self.directory.join(program)))
    }

    /// Returns a program of the system, in the directory of the application.
    pub fn program(&self, name: &str) -> Command {
        self.prepared(Command::new(name))
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(&self.directory).env("DATABASE_URL", &self.url).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Runs a command of the example.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command("run").args(arguments).output().unwrap()
    }

    /// Runs a command of the example that must succeed, and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "run {arguments:?}: {printed}{errors}");
        printed
    }

    /// Installs the packages of the lock file.
    pub fn set_up(&self) {
        run(self.command("run").arg("setup"));
    }
}
