//! Other servers, standbys, and the end of the server.

use std::time::Duration;

use e2e::count;

use super::{BACK_WITHIN, another, exists, running, served, signal, wait_for_end};

#[test]
fn two_servers_have_two_services() {
    let (one, other) = (served(), served());
    let (mut a, mut b) = (one.connect(), other.connect());
    let (first, second) = (running(&mut a), running(&mut b));
    assert_ne!(first, second);
    signal(first, "KILL");
    let (third, _) = another(&mut a, first);
    assert!(exists(third) && running(&mut b) == second);
    a.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    b.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    assert_eq!(count(&mut a, "SELECT restarts FROM clip_service"), 1);
    assert_eq!(count(&mut b, "SELECT restarts FROM clip_service"), 0);
    drop(one);
    wait_for_end(third, BACK_WITHIN);
    assert!(exists(second));
}

#[test]
fn the_service_ends_with_its_server() {
    let cluster = served();
    let mut client = cluster.connect();
    let service = running(&mut client);
    // A crash of a session restarts the server's processes, and the service.
    let mut victim = cluster.connect();
    cluster.kill(e2e::pid(&mut victim));
    wait_for_end(service, BACK_WITHIN);
    let mut client = cluster.reconnect();
    let service = running(&mut client);
    // A killed postmaster has no time to stop it.
    cluster.kill(cluster.postmaster());
    wait_for_end(service, Duration::from_secs(1));
    cluster.restart();
    let service = running(&mut cluster.connect());
    drop(cluster);
    wait_for_end(service, BACK_WITHIN);
}

#[test]
fn a_standby_has_a_service_of_its_own() {
    let primary = served();
    let mut origin = primary.connect();
    origin.batch_execute("CREATE TABLE item (id int PRIMARY KEY, title text); SELECT clip_auto_embed('item', 'title', model => 'wide')").unwrap();
    origin.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 50) AS i").unwrap();
    let standby = primary.backup("standby", &["hot_standby = on"]);
    // The socket is not part of a backup.
    assert!(!standby.directory.join("data/pgsql_tmp_pg_clip").exists());
    standby.restart();
    let mut copy = standby.connect();
    assert_ne!(running(&mut copy), running(&mut origin));
    assert_eq!(count(&mut copy, "SELECT key::bigint FROM clip_search('item', 'text 17', 1)"), 17);
    assert_eq!(count(&mut copy, "SELECT count(*) FROM clip_loaded_models"), 0);
    let service = running(&mut copy);
    signal(service, "KILL");
    another(&mut copy, service);
}
