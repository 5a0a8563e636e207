//! Follows docs/tutorial.md as a reader does: saves its programs, runs its statements and commands in their order, and uses
//! the web page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use e2e::{Cluster, root, wait_until};

/// Returns the fences of the page, each with its language. The page's hidden blocks replace programs that the test does
/// not have.
fn fences(page: &str) -> Vec<(String, String)> {
    let fences = page.split("```").skip(1).step_by(2).map(|fence| fence.split_once('\n').unwrap());
    fences.map(|(language, body)| (language.to_owned(), body.to_owned())).collect()
}

struct Reader {
    cluster: Cluster,
    directory: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Reader {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let paths = [root().join("target/python-orm/bin"), PathBuf::from(e2e::pg_config("--bindir"))];
        let old = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(paths.into_iter().chain(std::env::split_paths(&old))).unwrap();
        command.current_dir(&self.directory).env("PATH", path).env("PORT", self.port.to_string());
        command.env("PGHOST", &self.cluster.directory).env("PGUSER", "postgres");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    /// Returns the answer of the web page, after its server has started.
    fn get(&self, address: &str) -> Vec<u8> {
        let begun = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("localhost", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        write!(stream, "GET {address} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn titles(&self, address: &str) -> Vec<String> {
        let page = String::from_utf8(self.get(address)).unwrap();
        assert!(page.contains("200 OK"), "{page}");
        page.split("alt=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

#[test]
fn a_reader_gets_a_web_page_that_searches_photos() {
    let requirements = root().join("examples/sqlalchemy/requirements.txt");
    let environment = root().join("target/python-orm");
    e2e::run(Command::new(root().join("scripts/dev/environment.sh")).arg(environment).arg(requirements));
    let directory = std::env::temp_dir().join(format!("pg_clip-tutorial-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let port = TcpListener::bind(("localhost", 0)).unwrap().local_addr().unwrap().port();
    let mut reader = Reader { cluster: Cluster::start(), directory, port, server: None };
    let page = std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let mut printed = String::new();
    let mut in_shell = false;
    for (language, body) in fences(&page) {
        match language.as_str() {
            "python" => {
                let name = body.strip_prefix("# ").and_then(|rest| rest.split(':').next()).unwrap();
                std::fs::write(reader.directory.join(name), &body).unwrap();
            }
            "sql" => {
                if body.contains("clip_search") {
                    let mut client =
                        reader.cluster.config("postgres").dbname("gallery").connect(postgres::NoTls).unwrap();
                    wait_until(&mut client, "SELECT count(embedding) = 320 FROM photo");
                }
                let file = reader.directory.join("statements.sql");
                std::fs::write(&file, body).unwrap();
                let file = file.display().to_string();
                reader.run("psql", &["-X", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=gallery", "--file", &file]);
            }
            "sh" if body.starts_with("python serve.py") => {
                let mut words = reader.command("python");
                reader.server = Some(words.arg("serve.py").process_group(0).spawn().unwrap());
            }
            "sh" => printed = reader.run("bash", &["-euc", &body]),
            "output" if in_shell => assert_eq!(printed, body),
            _ => (),
        }
        in_shell = language == "sh";
    }
    let found = reader.titles("/?query=musical+instrument");
    assert_eq!(found.len(), 12);
    assert_eq!(found[..3], ["musical keyboard.png", "saxophone.png", "trumpet.png"]);
    let page = String::from_utf8(reader.get("/?query=musical+instrument")).unwrap();
    let id = page.split("/photo/").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(reader.titles(&format!("/?similar={id}"))[0], "musical keyboard.png");
    let photo = reader.get(&format!("/photo/{id}"));
    let file = std::fs::read(reader.directory.join("photos/musical keyboard.png")).unwrap();
    assert!(photo.ends_with(&file) && photo.starts_with(b"HTTP/1.0 200 OK"));
    // The page escapes the text that a visitor types.
    let page = String::from_utf8(reader.get("/?query=%22%3Cscript%3E'")).unwrap();
    assert!(page.contains("&quot;&lt;script&gt;&#x27;") && !page.contains("<script>"));
    // Running the loader again embeds nothing again.
    assert_eq!(reader.run("python", &["load.py", "photos"]), "320 photos\n");
    let mut client = reader.cluster.config("postgres").dbname("gallery").connect(postgres::NoTls).unwrap();
    assert_eq!(e2e::count(&mut client, "SELECT count(embedding) FROM photo"), 320);
}
