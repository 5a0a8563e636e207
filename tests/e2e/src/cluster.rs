//! Temporary servers.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use crate::{answer_of, create_extension, let_call, pg_config, root, run, served, slow_model};

/// A temporary server with the extension. Dropping it removes the server.
pub struct Cluster {
    pub directory: PathBuf,
    /// The installation of the server; `None` for the tested one.
    pg_config: Option<PathBuf>,
    /// The network namespace of the server; `None` for that of the test.
    namespace: Option<String>,
}

impl Cluster {
    /// Returns a cluster that does not exist yet.
    fn new(pg_config: Option<PathBuf>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pg_clip-{}-{number}", std::process::id()));
        Self { directory, pg_config, namespace: None }
    }

    /// Starts a server with the embedded model and the fixtures.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`Cluster::start`], with lines of postgresql.conf.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::new(None).set_up(settings)
    }

    /// Like [`Cluster::start_with`], with another installation.
    pub fn start_of(pg_config: PathBuf, settings: &[&str]) -> Self {
        Self::new(Some(pg_config)).set_up(settings)
    }

    /// Like [`Cluster::start_with`], in a network namespace. Clients reach the server by its socket all the same.
    pub fn start_in(namespace: &str, settings: &[&str]) -> Self {
        let mut cluster = Self::new(None);
        cluster.namespace = Some(namespace.into());
        cluster.set_up(settings)
    }

    fn set_up(self, settings: &[&str]) -> Self {
        let cluster = self;
        run(cluster.script("start").args(served()).args(settings));
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

    /// Returns the server's model directory.
    pub fn models(&self) -> PathBuf {
        self.directory.join("models")
    }

    /// Adds a fixture model.
    pub fn add(&self, name: &str) {
        if name == slow_model::NAME {
            return slow_model::install(&self.models(), |models| self.pgclip_for(models));
        }
        run(self.pgclip().args(["add", name, "--license", "MIT"]).arg(root().join("tests/fixtures/models").join(name)));
    }

    /// Adds a copy of the embedded model. Options of `pgclip add` can make it a model with another digest.
    pub fn add_emoji(&self, name: &str, options: &[&str]) {
        let mut add = self.pgclip();
        add.args(["add", name]).arg(root().join("models/emoji")).args(options);
        run(add.args(["--license", "PostgreSQL", "--logit-scale", "40.4473043600674"]));
    }

    /// Returns the command pgclip for this server's models.
    pub fn pgclip(&self) -> Command {
        self.pgclip_for(&self.models())
    }

    fn pgclip_for(&self, models: &Path) -> Command {
        let mut command = Command::new(root().join("target/release/pgclip"));
        let pg_config = self.pg_config.clone().or_else(|| std::env::var_os("PG_CONFIG").map(Into::into));
        if let Some(pg_config) = pg_config {
            command.arg("--pg-config").arg(pg_config);
        }
        command.arg("--model-path").arg(models);
        command.arg("--onnxruntime").arg(root().join("target/onnxruntime/libonnxruntime.so"));
        command
    }

    /// Copies the running server with pg_basebackup. [`Cluster::restart`] starts the copy as a "standby", or for a
    /// "recovery". The copy uses the models of the original.
    pub fn backup(&self, signal: &str, settings: &[&str]) -> Self {
        self.backup_into(self.namespace.as_deref(), signal, settings)
    }

    /// Like [`Cluster::backup`], into another network namespace.
    pub fn backup_into(&self, namespace: Option<&str>, signal: &str, settings: &[&str]) -> Self {
        let mut copy = Self::new(self.pg_config.clone());
        copy.namespace = namespace.map(str::to_owned);
        run(self.script("backup").arg(&copy.directory).arg(signal).args(settings));
        copy
    }

    /// Stops the server immediately, if it runs, and starts it.
    pub fn restart(&self) {
        run(&mut self.script("restart"));
    }

    pub fn script(&self, verb: &str) -> Command {
        let script = root().join("scripts/cluster.sh");
        let mut command = Command::new(if self.namespace.is_some() { "ip".as_ref() } else { script.as_os_str() });
        if let Some(namespace) = &self.namespace {
            command.args(["netns", "exec", namespace]).arg(script);
        }
        // An error that users see has no backtrace, even if the environment requests one.
        command.arg(verb).arg(&self.directory).env("RUST_BACKTRACE", "1");
        if let Some(pg_config) = &self.pg_config {
            command.env("PG_CONFIG", pg_config);
        }
        command
    }

    pub fn connect(&self) -> Client {
        self.connect_as("postgres")
    }

    /// Connects, and collects the notices and warnings: severity, message, detail and hint.
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

    /// Connects as a role that calls the extension's functions directly, not only through tables.
    pub fn connect_as_caller(&self, user: &str) -> Client {
        let_call(&mut self.connect(), user);
        self.connect_as(user)
    }

    pub fn connect_as(&self, user: &str) -> Client {
        self.config(user).connect(NoTls).unwrap()
    }

    /// Kills one of the server's processes, which is a crash of the server. Returns after the server has noticed the
    /// crash: before, it still accepts connections that do not last.
    pub fn kill(&self, pid: i32) {
        // The process may be killed already and still exist.
        Command::new("kill").args(["-KILL", &pid.to_string()]).output().unwrap();
        let begun = Instant::now();
        while Path::new("/proc").join(pid.to_string()).exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Fails the test if a process of the server has crashed.
    pub fn assert_no_crash(&self) {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
        // The server logs this message both after a signal and after an exit.
        assert!(!log.contains("terminating any other active server processes"), "{log}");
    }

    /// Returns the user of the server's processes.
    pub fn owner(&self) -> u32 {
        std::fs::metadata(self.directory.join("data")).unwrap().uid()
    }

    /// Returns the server's first process.
    pub fn postmaster(&self) -> i32 {
        let file = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// Returns the server's processes: their working directory is its data directory.
    pub fn processes(&self) -> Vec<i32> {
        let data = self.directory.join("data").canonicalize().unwrap();
        let numbers =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_here =
            |number: &i32| std::fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|folder| folder == data);
        numbers.filter(is_here).collect()
    }

    /// Starts a stopped server with pg_ctl, without waiting for remains of an earlier server.
    pub fn start_again(&self) {
        let mut command = Command::new(self.pg_config("--bindir") + "/pg_ctl");
        command.arg("--pgdata").arg(self.directory.join("data")).arg("--log").arg(self.directory.join("log"));
        command.args(["--wait", "--silent", "start"]).current_dir("/").env("HOME", &self.directory);
        // PostgreSQL does not run as root.
        let owner = std::fs::metadata(self.directory.join("data")).unwrap();
        run(command.uid(owner.uid()).gid(owner.gid()));
    }

    /// Returns an answer of this server's pg_config.
    fn pg_config(&self, option: &str) -> String {
        match &self.pg_config {
            Some(path) => answer_of(path, option),
            None => pg_config(option),
        }
    }

    /// Connects after a crash, as soon as the server accepts connections.
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

    /// Returns the configuration of a connection, for tests that need more options.
    /// Returns the path of the server's socket.
    pub fn socket(&self) -> PathBuf {
        let [folder, port] = self.address();
        Path::new(&folder).join(format!(".s.PGSQL.{port}"))
    }

    pub fn config(&self, user: &str) -> Config {
        let [folder, port] = self.address();
        let mut config = Config::new();
        config.host_path(folder).port(port.parse().unwrap()).dbname("postgres").user(user);
        config
    }

    /// Returns the directory of the server's socket, and the number in its name.
    fn address(&self) -> [String; 2] {
        let output = self.script("env").output().unwrap();
        let variables = String::from_utf8(output.stdout).unwrap();
        let value = |name: &str| {
            let line = variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
            line.to_owned()
        };
        ["PGHOST", "PGPORT"].map(value)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("stop").status().ok();
    }
}
