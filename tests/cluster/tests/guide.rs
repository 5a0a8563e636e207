//! Runs the guide docs/guides/foreign-partitions.md on servers in network namespaces.
//!
//! The conventions are those of the other pages (see the test `pages`), and comments that select the servers:
//!
//! - `<!-- servers a b -->` names the servers. Each has an empty database `photos`. The host of a server is its name with
//!   `.example.com`.
//! - `<!-- on a b -->` selects the servers of the next block. `<!-- on a quietly … -->` is a block that readers do not see.
//! - `<!-- stop a -->` and `<!-- start a -->` stop and start a server.
//!
//! PG_CLIP_WRITE_OUTPUTS=1 replaces the outputs in the page by the printed ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::Stdio;

use cluster::{Network, require_fdw};
use e2e::root;

/// The servers of a page.
struct Servers {
    names: Vec<String>,
    network: Network,
}

impl Servers {
    fn start(names: &str) -> Self {
        let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
        let network = Network::start(names.len(), &[]);
        for number in 0..names.len() {
            network.connect(number).batch_execute("CREATE DATABASE photos").unwrap();
        }
        Self { names, network }
    }

    fn number(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| panic!("there is no server {name}"))
    }

    /// Runs a block on the named servers, and returns what psql prints on the last one.
    fn run(&self, names: &str, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for (number, name) in self.names.iter().enumerate() {
            sql = sql.replace(&format!("{name}.example.com"), &self.network.address(number));
        }
        let print = |name: &str| {
            let mut psql = self.network.server(self.number(name)).script("psql");
            psql.args(["-X", "-q", "-d", "photos"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut psql = psql.spawn().unwrap();
            psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
            let output = psql.wait_with_output().unwrap();
            let text = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
            text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>().trim_end().to_owned() + "\n"
        };
        let mut printed = String::new();
        for name in names.split_whitespace() {
            printed = print(name);
        }
        printed
    }
}

#[test]
fn the_statements_of_the_guide_print_its_outputs() {
    require_fdw();
    let path = root().join("docs/guides/foreign-partitions.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    let mut servers = None;
    let (mut on, mut printed) = (String::new(), None::<String>);
    let mut lines = page.lines();
    let mut blocks = 0;
    while let Some(line) = lines.next() {
        written += &format!("{line}\n");
        let comment = line.strip_prefix("<!-- ").map(|rest| rest.trim_end_matches(" -->"));
        let (word, rest) = comment.unwrap_or_default().split_once(' ').unwrap_or_default();
        let until = |lines: &mut std::str::Lines<'_>, end: &str| -> String {
            lines.by_ref().take_while(|line| *line != end).map(|line| format!("{line}\n")).collect()
        };
        match (word, line) {
            ("servers", _) => servers = Some(Servers::start(rest)),
            ("on", _) => match rest.strip_suffix(" quietly") {
                Some(names) => {
                    let sql = until(&mut lines, "-->");
                    written += &format!("{sql}-->\n");
                    let printed = servers.as_ref().unwrap().run(names, &sql);
                    assert!(!printed.contains("ERROR"), "{sql}{printed}");
                }
                None => rest.clone_into(&mut on),
            },
            ("stop", _) => {
                let servers: &Servers = servers.as_ref().unwrap();
                let server = servers.network.server(servers.number(rest));
                e2e::run(std::process::Command::new("kill").args(["-QUIT", &server.postmaster().to_string()]));
                while !server.processes().is_empty() {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            ("start", _) => {
                let servers: &Servers = servers.as_ref().unwrap();
                servers.network.server(servers.number(rest)).restart();
            }
            (_, "```sql") => {
                let sql = until(&mut lines, "```");
                written += &format!("{sql}```\n");
                blocks += 1;
                let text = servers.as_ref().unwrap().run(&on, &sql);
                let has_output = page[..].contains(&format!("{sql}```\n\n```output\n"));
                assert!(has_output || !text.contains("ERROR"), "{sql}{text}");
                printed = Some(text);
            }
            (_, "```output") => {
                let expected = until(&mut lines, "```");
                let expected: String = expected.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
                let found = without_addresses(servers.as_ref().unwrap(), &printed.take().unwrap());
                if std::env::var_os("PG_CLIP_WRITE_OUTPUTS").is_none() {
                    assert_eq!(found, expected);
                }
                written += &format!("{found}```\n");
            }
            _ => (),
        }
    }
    assert!(blocks >= 9, "{blocks} blocks");
    if std::env::var_os("PG_CLIP_WRITE_OUTPUTS").is_some() {
        std::fs::write(path, written).unwrap();
    }
}

/// Replaces the addresses by the names of hosts.
fn without_addresses(servers: &Servers, text: &str) -> String {
    let mut text = text.to_owned();
    for (number, name) in servers.names.iter().enumerate() {
        let address = servers.network.address(number);
        text = text.replace(&format!("\"{address}\""), &format!("\"{name}.example.com\""));
    }
    text
}
