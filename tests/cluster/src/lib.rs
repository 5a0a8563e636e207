//! Servers in network namespaces of their own, which reach each other over TCP.

mod photos;
pub mod search;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use e2e::{Cluster, run};
use postgres::Client;

pub use photos::{WIDTH, random_vector, require_fdw};

/// The network of some servers: a namespace for each, connected by a bridge. Dropping it removes the servers and the network.
pub struct Network {
    /// Dropped before the namespaces.
    servers: Vec<Cluster>,
    links: Links,
}

/// The namespaces and the bridge. Dropping it removes them.
struct Links {
    bridge: String,
    namespaces: Vec<String>,
    /// The first three numbers of the addresses.
    prefix: String,
}

impl Network {
    /// Starts servers with these lines of postgresql.conf. They accept every connection from the network.
    pub fn start(count: usize, settings: &[&str]) -> Self {
        require();
        let links = Links::new(count);
        let addresses: Vec<_> = (0..count).map(|number| links.address(number)).collect();
        let servers = thread::scope(|scope| {
            let starts: Vec<_> = links
                .namespaces
                .iter()
                .zip(&addresses)
                .map(|(namespace, address)| {
                    scope.spawn(move || {
                        let listen = format!("listen_addresses = '{address}'");
                        let settings = [&[listen.as_str()], settings].concat();
                        Cluster::start_in(namespace, &settings)
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        for server in &servers {
            let rules = server.directory.join("data/pg_hba.conf");
            let known = std::fs::read_to_string(&rules).unwrap();
            std::fs::write(&rules, format!("{known}host all,replication all {}.0/24 scram-sha-256\n", links.prefix))
                .unwrap();
            server.connect().batch_execute("SELECT pg_reload_conf()").unwrap();
        }
        Self { servers, links }
    }

    pub fn server(&self, number: usize) -> &Cluster {
        &self.servers[number]
    }

    pub fn servers(&self) -> &[Cluster] {
        &self.servers
    }

    pub fn connect(&self, number: usize) -> Client {
        self.servers[number].connect()
    }

    /// Returns the lines that a server has logged, and which contain a text.
    pub fn logged(&self, number: usize, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.server(number).directory.join("log")).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Returns the namespace of a server.
    pub fn namespace(&self, number: usize) -> String {
        self.links.namespaces[number].clone()
    }

    /// Starts a streaming standby of a server in the namespace of another one, which is stopped.
    pub fn standby(&self, of: usize, place: usize, user: &str, password: &str) -> Cluster {
        let (primary, former) = (&self.servers[of], &self.servers[place]);
        e2e::run(Command::new("kill").args(["-QUIT", &former.postmaster().to_string()]));
        while !former.processes().is_empty() {
            thread::sleep(Duration::from_millis(20));
        }
        let source = format!("host={} port=5432 user={user} password={password}", self.address(of));
        let settings =
            [format!("primary_conninfo = '{source}'"), format!("listen_addresses = '{}'", self.address(place))];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let standby = primary.backup_into(Some(&self.links.namespaces[place]), "standby", &settings);
        standby.restart();
        standby
    }

    /// Returns the address of a server.
    pub fn address(&self, number: usize) -> String {
        self.links.address(number)
    }

    /// Cuts a server off, or connects it again: packets to it and from it get lost without an answer.
    pub fn cut(&self, number: usize, is_cut: bool) {
        ip(&["link", "set", &self.links.end(number), if is_cut { "down" } else { "up" }]);
    }
}

impl Links {
    fn new(count: usize) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        static MAKING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = MAKING.lock();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Names of interfaces have at most 15 letters.
        let name = format!("clip{}{number}", process % 10_000_000);
        let prefix = format!("10.{}.{}", 100 + process / 200 % 100, (process % 200 + u32::from(number) * 7) % 250);
        let mut links = Self { bridge: name.clone(), namespaces: Vec::new(), prefix };
        ip(&["link", "add", &name, "type", "bridge"]);
        ip(&["link", "set", &name, "up"]);
        for number in 0..count {
            let namespace = format!("{name}-{number}");
            ip(&["netns", "add", &namespace]);
            links.namespaces.push(namespace.clone());
            let (outer, inner) = (links.end(number), format!("{}i", links.end(number)));
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner]);
            ip(&["link", "set", &outer, "master", &name, "up"]);
            ip(&["link", "set", &inner, "netns", &namespace]);
            ip(&["-n", &namespace, "address", "add", &format!("{}/24", links.address(number)), "dev", &inner]);
            ip(&["-n", &namespace, "link", "set", &inner, "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        links
    }

    fn address(&self, number: usize) -> String {
        format!("{}.{}", self.prefix, number + 1)
    }

    /// Returns the end of a server's cable at the bridge.
    fn end(&self, number: usize) -> String {
        format!("{}v{number}", self.bridge)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Removes the cables, too.
        for namespace in &self.namespaces {
            Command::new("ip").args(["netns", "delete", namespace]).output().ok();
        }
        Command::new("ip").args(["link", "delete", &self.bridge]).output().ok();
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

/// Fails with the reason if namespaces cannot be made here.
fn require() {
    let ip = Command::new("ip").arg("-V").output();
    assert!(ip.is_ok_and(|output| output.status.success()), "the command ip is missing: apt-get install iproute2");
    let probe = format!("clip-probe-{}-{:?}", std::process::id(), thread::current().id());
    let probe: String = probe.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    let made = Command::new("ip").args(["netns", "add", &probe]).output().unwrap();
    let reason = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(
        made.status.success(),
        "network namespaces cannot be made. This test needs root, and CAP_SYS_ADMIN in a container: {reason}"
    );
    run(Command::new("ip").args(["netns", "delete", &probe]));
    assert!(Path::new("/proc/net/route").exists(), "this kernel has no network");
}
