//! examples/gallery: its own tests in Chromium, and the commands of docs/gallery.md.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use applications::{Application, Shop};
use e2e::{root, run};

fn superuser(shop: &Shop, database: &str) -> String {
    shop.url.replace("shop:shop@", "postgres@").replace("/shop", &format!("/{database}"))
}

#[test]
fn visitors_upload_search_and_see_errors() {
    let shop = Shop::open();
    let gallery = Application::copy("gallery", &superuser(&shop, "postgres"));
    run(gallery.program("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]));
    let output = gallery.program("npm").arg("test").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let passed = printed.lines().find_map(|line| line.split_once("pass ")?.1.trim().parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed >= 36), "{printed}");
    shop.cluster.assert_no_crash();
}

/// A started web server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_page_of_the_documentation_leads_to_a_gallery() {
    let shop = Shop::open();
    let page = std::fs::read_to_string(root().join("docs/gallery.md")).unwrap();
    let blocks: Vec<_> = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [tried, with_model, created, started, counted] = blocks.as_slice() else {
        panic!("the page has {} blocks", blocks.len())
    };
    // `make gallery` builds, and installs for the whole machine. Its script does the rest.
    for block in [tried, with_model] {
        assert!(block.contains("GALLERY_PHOTOS=~/Pictures make gallery"), "{block}");
    }
    assert!(std::fs::read_to_string(root().join("Makefile")).unwrap().contains("examples/gallery/run.sh"));
    let home = shop.cluster.directory.join("home");
    std::fs::create_dir_all(home.join("Pictures/holidays")).unwrap();
    for title in ["guitar", "trumpet", "pizza", "dog face"] {
        std::fs::copy(shop.image(title), home.join(format!("Pictures/holidays/{title}.png"))).unwrap();
    }
    std::fs::write(home.join("Pictures/notes.txt"), "no image").unwrap();
    // A copy of the sources, because npm writes into the example.
    let sources = root().join("target/applications/sources");
    Application::copy_to(&sources.join("examples/gallery"), "gallery", "");
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-euc", script]).current_dir(&sources).env("HOME", &home).env("LANG", "C.UTF-8");
        let url = superuser(&shop, "postgres");
        let (host, port) = url.split_once('@').unwrap().1.split_once('/').unwrap().0.split_once(':').unwrap();
        command.env("PGHOST", host).env("PGPORT", port).env("PGUSER", "postgres").env("PATH", path_with_server());
        command
    };
    run(&mut shell(created));
    let address = shop.url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let started = started.replace("localhost", address);
    let (before, start) = started.split_once("npm start").unwrap();
    run(&mut shell(&format!("cd examples/gallery\n{before}")));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(start.trim(), "");
    let script = format!("cd examples/gallery\n{}\nexec node server/main.js", before.lines().next().unwrap());
    let _server = Server(shell(&script).env("PORT", port.to_string()).spawn().unwrap());
    let begun = Instant::now();
    loop {
        let answer = get(port, "/api/search?q=musical%20instrument").unwrap_or_default();
        let [guitar, pizza] = ["\"guitar\"", "\"pizza\""].map(|name| answer.find(name));
        if let (Some(guitar), Some(pizza)) = (guitar, pizza) {
            assert!(guitar < pizza, "{answer}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{answer}");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(get(port, "/").unwrap().contains("<title>Gallery"));
    let output = shell(counted).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("    4 |        4 |       0 |      0"), "{printed}");
}

/// Returns PATH, with the programs of the tested server first.
fn path_with_server() -> String {
    format!("{}:{}", e2e::pg_config("--bindir"), std::env::var("PATH").unwrap_or_default())
}

/// Returns the answer to a request, with its head.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
