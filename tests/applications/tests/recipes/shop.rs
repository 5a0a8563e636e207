//! The checks that every application must pass.

use applications::{Application, Shop};
use e2e::{count, wait_until};

/// Commands that not every tool has.
#[derive(Clone, Copy, PartialEq)]
pub enum Feature {
    /// Reverts the migrations.
    Undo,
    /// Compares the models with the database.
    Diff,
    /// Notices a column of the database that no model declares.
    Surplus,
    /// Saves a loaded object twice.
    Change,
    Remove,
    /// Reads the status view.
    Pending,
    /// Switches to background workers.
    Queue,
}

/// The products of the sample whose price is below 100, which are all.
const INSTRUMENTS: &str = "musical keyboard\nsaxophone\ntrumpet\nviolin\nguitar\n";

pub fn check(directory: &str, features: &[Feature]) {
    let shop = Shop::open();
    let application = Application::copy(directory, &shop.url);
    let has = |feature| features.contains(&feature);
    application.set_up();
    application.run(&["migrate"]);
    let mut client = shop.connect();
    if has(Feature::Undo) {
        application.run(&["undo"]);
        assert_eq!(count(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'product'"), 0);
        application.run(&["migrate"]);
    }
    let index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'product_embedding_idx' AND indexdef ~ 'USING hnsw \\(embedding vector_cosine_ops\\)'";
    assert_eq!(count(&mut client, index), 1, "the index has the name that the models declare");
    let owned = "SELECT count(*) FROM pg_class WHERE relname = 'product' AND relowner = 'shop'::regrole";
    assert_eq!(count(&mut client, owned), 1, "the migrations ran as an ordinary role");

    // One row, in the ordinary way of the tool.
    let guitar = shop.image("guitar").to_str().unwrap();
    let id: i64 = application.run(&["add", "o'hara \"x\" 100%", "7", guitar]).trim().parse().unwrap();
    let added = format!("SELECT count(*) FROM product WHERE id = {id} AND title = 'o''hara \"x\" 100%' AND price = 7");
    assert_eq!(count(&mut client, &added), 1);
    let stale =
        "SELECT count(*) FROM product WHERE embedding IS NULL OR embedding <=> clip_embed_image(image, 'emoji') > 1e-6";
    assert_eq!(count(&mut client, stale), 0);
    client.batch_execute("DELETE FROM product").unwrap();

    // A file that is no image: the application shows the error of the database, and stores nothing.
    let list = shop.list();
    let output = application.output(&["add", "no image", "1", list.to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("22P03"), "{shown}");
    assert!(shown.len() < 3000, "the error contains the image: {} bytes", shown.len());
    assert_eq!(count(&mut client, "SELECT count(*) FROM product"), 0);

    application.run(&["load", list.to_str().unwrap()]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM product"), shop.images.len() as i64);
    assert_eq!(count(&mut client, stale), 0);
    assert_eq!(application.run(&["find", "musical instrument", "100"]), INSTRUMENTS);
    check_filter(&application, &mut client);
    let similar = application.run(&["similar", guitar, "100"]);
    assert!(similar.starts_with("guitar\n") && similar.lines().count() == 5, "{similar}");
    let hostile = application.run(&["find", "'; DROP TABLE product; --", "100"]);
    assert_eq!(hostile.lines().count(), 5);

    if has(Feature::Change) {
        let pizza = shop.image("pizza").to_str().unwrap();
        let price = count(&mut client, "SELECT price::bigint FROM product WHERE title = 'guitar'");
        application.run(&["change", "guitar", pizza]);
        assert_eq!(count(&mut client, "SELECT price::bigint FROM product WHERE title = 'guitar'"), price + 1);
        assert_eq!(count(&mut client, stale), 0, "the embedding belongs to the new image");
        let same = "SELECT count(DISTINCT image) FROM product WHERE title IN ('guitar', 'pizza')";
        assert_eq!(count(&mut client, same), 1);
        application.run(&["change", "guitar", guitar]);
    }
    if has(Feature::Remove) {
        application.run(&["remove", "guitar"]);
        assert_eq!(count(&mut client, "SELECT count(*) FROM product WHERE title = 'guitar'"), 0);
    }
    if has(Feature::Pending) {
        assert_eq!(application.run(&["pending"]).trim(), "0 0");
    }
    if has(Feature::Diff) {
        application.run(&["diff"]);
    }
    if has(Feature::Surplus) {
        check_surplus(&application, &mut client);
    }
    if has(Feature::Queue) {
        application.run(&["queue"]);
        client.batch_execute("DELETE FROM product").unwrap();
        application.run(&["load", list.to_str().unwrap()]);
        wait_until(&mut client, "SELECT count(*) = 320 FROM product WHERE embedding IS NOT NULL");
        assert_eq!(count(&mut client, stale), 0);
        assert_eq!(application.run(&["find", "musical instrument", "100"]), INSTRUMENTS);
        assert_eq!(application.run(&["pending"]).trim(), "0 0");
        if has(Feature::Diff) {
            application.run(&["diff"]);
        }
    }
    shop.cluster.assert_no_crash();
}

/// The rows that match the filter, also where the nearest rows do not match.
fn check_filter(application: &Application, client: &mut postgres::Client) {
    let query = "SELECT title FROM product WHERE price < 5 ORDER BY (embedding <=> (SELECT clip_query('product', 'musical instrument'))) + 0 LIMIT 5";
    let nearest: String = client.query(query, &[]).unwrap().iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    assert_eq!(application.run(&["find", "musical instrument", "5"]), nearest);
}

/// The comparison finds a difference if there is one.
fn check_surplus(application: &Application, client: &mut postgres::Client) {
    let columns =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'product'::regclass AND attnum > 0 AND NOT attisdropped";
    let before = count(client, columns);
    client.batch_execute("ALTER TABLE product ADD COLUMN surplus int").unwrap();
    let output = application.output(&["diff"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    client.batch_execute("ALTER TABLE product DROP COLUMN surplus").unwrap();
    assert_eq!(count(client, columns), before);
    application.run(&["diff"]);
}
