//! Throw-away servers.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use crate::{answer_of, create_extension, let_call, pg_config, root, run};

/// A server of our own with the extension created, gone when dropped.
pub struct Cluster {
    pub directory: PathBuf,
    /// The installation of the server, if it is not the one under test.
    pg_config: Option<PathBuf>,
}

impl Cluster {
    /// One that is not there yet.
    fn new(pg_config: Option<PathBuf>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pg_clip-{}-{number}", std::process::id()));
        Self { directory, pg_config }
    }

    /// Start a server that knows the embedded model and the fixtures.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with lines of postgresql.conf.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::new(None).set_up(settings)
    }

    /// The same of another installation.
    pub fn start_of(pg_config: PathBuf, settings: &[&str]) -> Self {
        Self::new(Some(pg_config)).set_up(settings)
    }

    fn set_up(self, settings: &[&str]) -> Self {
        let cluster = self;
        run(cluster.script("start").args(settings));
        for name in ["wide", "narrow", "bidirectional", "fragile"] {
            cluster.add(name);
        }
        cluster.add_emoji("emoji", &[]);
        let mut client = cluster.connect();
        client.batch_execute(&create_extension()).unwrap();
        let set = format!("ALTER SYSTEM SET clip.model_path = '{}'", cluster.models().display());
        client.batch_execute(&set).unwrap();
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
        drop(client);
        cluster.restart();
        cluster
    }

    /// The directory of the models that the server knows.
    pub fn models(&self) -> PathBuf {
        self.directory.join("models")
    }

    /// Add a fixture model.
    pub fn add(&self, name: &str) {
        run(self.pgclip().args(["add", name, "--license", "MIT"]).arg(root().join("tests/fixtures/models").join(name)));
    }

    /// Add a copy of the embedded model. Options of `pgclip add` can make it a model with another digest.
    pub fn add_emoji(&self, name: &str, options: &[&str]) {
        let mut add = self.pgclip();
        add.args(["add", name]).arg(root().join("models/emoji")).args(options);
        run(add.args(["--license", "PostgreSQL", "--logit-scale", "40.4473043600674"]));
    }

    /// The command, for this server's models.
    pub fn pgclip(&self) -> Command {
        let mut command = Command::new(root().join("target/release/pgclip"));
        let pg_config = self.pg_config.clone().or_else(|| std::env::var_os("PG_CONFIG").map(Into::into));
        if let Some(pg_config) = pg_config {
            command.arg("--pg-config").arg(pg_config);
        }
        command.arg("--model-path").arg(self.models());
        command.arg("--onnxruntime").arg(root().join("target/onnxruntime/libonnxruntime.so"));
        command
    }

    /// A copy of the running server by pg_basebackup, to be started by [`Cluster::restart`]: as a "standby", or for a
    /// "recovery". It knows the models of its origin.
    pub fn backup(&self, signal: &str, settings: &[&str]) -> Self {
        let copy = Self::new(self.pg_config.clone());
        run(self.script("backup").arg(&copy.directory).arg(signal).args(settings));
        copy
    }

    /// Stop the server at once, if it runs, and start it.
    pub fn restart(&self) {
        run(&mut self.script("restart"));
    }

    pub fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(root().join("scripts/cluster.sh"));
        // Whatever the environment asks for, no error that users see has a backtrace.
        command.arg(verb).arg(&self.directory).env("RUST_BACKTRACE", "1");
        if let Some(pg_config) = &self.pg_config {
            command.env("PG_CONFIG", pg_config);
        }
        command
    }

    pub fn connect(&self) -> Client {
        self.connect_as("postgres")
    }

    /// Connect, and collect the notices and warnings: severity, message, detail and hint.
    pub fn listen(&self, user: &str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = heard.clone();
        let mut config = self.config(user);
        config.notice_callback(move |notice| {
            let text = [Some(notice.message()), notice.detail(), notice.hint()];
            let text = text.into_iter().flatten().collect::<Vec<_>>().join(" | ");
            listener.lock().unwrap().push(format!("{}: {text}", notice.severity()));
        });
        (config.connect(NoTls).unwrap(), heard)
    }

    /// Connects as a role that calls the extension's functions itself, not only through triggers.
    pub fn connect_as_caller(&self, user: &str) -> Client {
        let_call(&mut self.connect(), user);
        self.connect_as(user)
    }

    pub fn connect_as(&self, user: &str) -> Client {
        self.config(user).connect(NoTls).unwrap()
    }

    /// Kill one of the server's processes, which is a crash of the server. It has noticed when this returns: until then it
    /// would take connections that do not last.
    pub fn kill(&self, pid: i32) {
        // It may have been killed already, and not be gone yet.
        Command::new("kill").args(["-KILL", &pid.to_string()]).output().unwrap();
        let begun = Instant::now();
        while Path::new("/proc").join(pid.to_string()).exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No process of the server has crashed, or the test fails.
    pub fn assert_no_crash(&self) {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
        // By a signal or by an exit: what follows is the same.
        assert!(!log.contains("terminating any other active server processes"), "{log}");
    }

    /// The user that owns the server's processes.
    pub fn owner(&self) -> u32 {
        std::fs::metadata(self.directory.join("data")).unwrap().uid()
    }

    /// The server's first process.
    pub fn postmaster(&self) -> i32 {
        let file = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// The server's processes: they run in its data directory.
    pub fn processes(&self) -> Vec<i32> {
        let data = self.directory.join("data").canonicalize().unwrap();
        let numbers =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_here =
            |number: &i32| std::fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|folder| folder == data);
        numbers.filter(is_here).collect()
    }

    /// Start a server that does not run, by pg_ctl itself: it waits for nothing that a former server left.
    pub fn start_again(&self) {
        let mut command = Command::new(self.pg_config("--bindir") + "/pg_ctl");
        command.arg("--pgdata").arg(self.directory.join("data")).arg("--log").arg(self.directory.join("log"));
        command.args(["--wait", "--silent", "start"]).current_dir("/").env("HOME", &self.directory);
        // PostgreSQL refuses to run as root.
        let owner = std::fs::metadata(self.directory.join("data")).unwrap();
        run(command.uid(owner.uid()).gid(owner.gid()));
    }

    /// The output of this server's pg_config.
    fn pg_config(&self, option: &str) -> String {
        match &self.pg_config {
            Some(path) => answer_of(path, option),
            None => pg_config(option),
        }
    }

    /// A connection after a crash, once the server takes them again.
    pub fn reconnect(&self) -> Client {
        let begun = Instant::now();
        loop {
            match self.config("postgres").connect(NoTls) {
                Ok(client) => return client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How to connect, for those who want to say more.
    pub fn config(&self, user: &str) -> Config {
        let output = self.script("env").output().unwrap();
        let variables = String::from_utf8(output.stdout).unwrap();
        let value = |name: &str| {
            let line = variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
            line.to_owned()
        };
        let mut config = Config::new();
        config.host_path(value("PGHOST")).port(value("PGPORT").parse().unwrap()).dbname("postgres").user(user);
        config
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("stop").status().ok();
    }
}
