//! Limits of memory and time.

use super::*;

/// Checks that a call succeeded, or failed with one of the expected errors.
fn check(result: Result<u64, postgres::Error>, what: &str) {
    if let Err(error) = result {
        let refusals =
            [&SqlState::INVALID_BINARY_REPRESENTATION, &SqlState::PROGRAM_LIMIT_EXCEEDED, &SqlState::OUT_OF_MEMORY];
        assert!(refusals.contains(&sqlstate(&error)), "{what}: {error:?}");
    }
}

/// Returns the process of the session, and the process that embeds: the same, or the embedding service.
fn processes(client: &mut Client) -> [i32; 2] {
    let both = "SELECT pg_backend_pid(), COALESCE(pid::int, pg_backend_pid()) FROM clip_service";
    let row = client.query_one(both, &[]).unwrap();
    [row.get(0), row.get(1)]
}

fn limited(cluster: &Cluster) -> (Client, [i32; 2]) {
    let mut client = cluster.connect();
    let found = processes(&mut client);
    // The service may have the limit of an earlier call.
    found.iter().for_each(|&process| limit_memory(process, Some(16 * MEGABYTES)));
    client.batch_execute("SET statement_timeout = '30s'; SELECT clip_prewarm('narrow', 'image')").unwrap();
    found.iter().for_each(|&process| limit_memory(process, Some(MEGABYTES)));
    (client, found)
}

#[test]
fn bombs_do_no_harm() {
    let cluster = Cluster::start();
    let (mut client, found) = limited(&cluster);
    for (what, bytes) in bombs() {
        let begun = std::time::Instant::now();
        check(client.execute("SELECT * FROM clip_image_info($1)", &[&bytes]), what);
        check(client.execute("SELECT clip_embed_image($1, 'narrow')", &[&bytes]), what);
        println!("{what}: {} bytes, {:?}", bytes.len(), begun.elapsed());
        assert!(begun.elapsed() < LONGEST, "{what}: {:?}", begun.elapsed());
    }
    assert_eq!(processes(&mut client), found);
    client.execute("SELECT clip_embed_image($1, 'narrow')", &[&picture("rgb_444.jpg")]).unwrap();
    let frames = |client: &mut Client, bytes: &[u8]| -> i32 {
        client.query_one("SELECT frames FROM clip_image_info($1)", &[&bytes]).unwrap().get(0)
    };
    assert_eq!(frames(&mut client, &apng(10_000)), 10_000);
    assert_eq!(frames(&mut client, &gif(1, 1, 100_000)), 100_000);
    assert_eq!(frames(&mut client, &overlapping_tiff(60_000)), 60_000);
}

/// Repeats a call with more and more memory, until it has succeeded three times. A lack of memory raises an error, and
/// the connection stays usable.
fn ask_until_it_fits(cluster: &Cluster, step: usize, call: &str, what: &str, bytes: &[u8]) {
    let (mut client, [session, embeds]) = limited(cluster);
    let process = if call.starts_with("clip_embed") { embeds } else { session };
    let (mut refused, mut done) = (0, 0);
    for megabytes in (0..1300).step_by(step) {
        if done == 3 {
            break;
        }
        limit_memory(process, Some(megabytes));
        match client.execute(&format!("SELECT {call}"), &[&bytes]) {
            Err(error) if sqlstate(&error) == &SqlState::OUT_OF_MEMORY => refused += 1,
            Err(error) if sqlstate(&error) == &SqlState::INVALID_BINARY_REPRESENTATION => done += 1,
            Ok(_) => done += 1,
            Err(error) => panic!("{what}, {call}, {megabytes} MB: {error:?}"),
        }
    }
    // The service has free memory of earlier requests.
    let is_limited = refused > 2 || process != session;
    assert!(is_limited && done == 3, "{what}, {call}: {refused} refused, {done} done: the limits prove nothing");
}

#[test]
fn large_images_raise_an_error_if_memory_is_short() {
    const SIDE: u16 = 7900;
    let cluster = Cluster::start();
    for (what, bytes) in [
        ("a progressive JPEG in colour", scans(3, SIDE, 3)),
        ("a grey progressive JPEG", scans(1, SIDE, 3)),
        ("a lossless WebP", lossless_webp(SIDE.into())),
        ("a lossy WebP", lossy_webp(SIDE)),
        ("a PNG that lies on its side", lying_png(SIDE.into())),
        ("a GIF of a frame that is larger than its screen", framed_gif(4000, 4000, 6900, 1)),
        ("a TIFF of four inks of 16 bits", cmyk_tiff(SIDE.into())),
    ] {
        ask_until_it_fits(&cluster, 40, "clip_embed_image($1, 'narrow')", what, &bytes);
    }
    cluster.assert_no_crash();
}

#[test]
fn large_headers_raise_an_error_if_memory_is_short() {
    const MANY: usize = 8_000_000;
    let cluster = Cluster::start();
    let jpeg = picture("rgb_444.jpg");
    let profile = [&b"\xff\xe2\xff\xffICC_PROFILE\0\x01\xff"[..], &[0; 65519]].concat().repeat(255);
    let texts = [chunk(b"tEXt", b"a\0b").repeat(MANY / 20), grey_pixel()];
    for (what, bytes) in [
        ("a JPEG with a colour profile", [&jpeg[..2], &profile, &jpeg[2..]].concat()),
        ("a PNG with many texts", png(1, 1, &texts)),
        ("a PNG with EXIF", png(1, 1, &[chunk(b"eXIf", &[0; MANY]), grey_pixel()])),
        ("a WebP with EXIF", extended_webp(&[&b"EXIF"[..], &(MANY as u32).to_le_bytes(), &[0; MANY]].concat())),
        ("a WebP of many chunks", extended_webp(&(0..MANY as u64 / 8).flat_map(u64::to_be_bytes).collect::<Vec<_>>())),
        ("a TIFF of many strips", tiff(1, MANY as u32, 1)),
    ] {
        ask_until_it_fits(&cluster, 8, "clip_embed_image($1, 'narrow')", what, &bytes);
        ask_until_it_fits(&cluster, 8, "clip_image_info($1)", what, &bytes);
    }
    cluster.assert_no_crash();
}

#[test]
fn a_gigabyte_is_rejected_before_it_is_read() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    // The largest possible value.
    for (kind, value) in
        [("bytea", "convert_to(repeat('x', (1 << 30) - 100), 'SQL_ASCII')"), ("text", "repeat('x', (1 << 30) - 100)")]
    {
        client.batch_execute(&format!("CREATE TABLE big_{kind} AS SELECT {value} AS value")).unwrap();
    }
    let (mut client, _) = limited(&cluster);
    for call in [
        "clip_embed_image(value, 'narrow') FROM big_bytea",
        "clip_image_info(value) FROM big_bytea",
        "clip_embed_text(value, 'narrow') FROM big_text",
        "clip_token_count(value, 'narrow') FROM big_text",
    ] {
        let error = client.batch_execute(&format!("SELECT {call}")).unwrap_err();
        assert_eq!(sqlstate(&error), &SqlState::PROGRAM_LIMIT_EXCEEDED, "{call}");
    }
}

#[test]
fn too_many_labels_and_templates_are_rejected() {
    let cluster = Cluster::start();
    let (mut client, found) = limited(&cluster);
    for (labels, templates, expected) in [
        ("ARRAY[repeat('a', 1048576)]", "ARRAY[repeat('{}', 524288)]", SqlState::PROGRAM_LIMIT_EXCEEDED),
        ("ARRAY[repeat('a', 1048576)]", "array_fill('{}'::text, ARRAY[1000000])", SqlState::INVALID_PARAMETER_VALUE),
        ("ARRAY[repeat('a', 1048570)]", "ARRAY['a photo of a {}']", SqlState::PROGRAM_LIMIT_EXCEEDED),
    ] {
        let classify = format!("SELECT clip_classify(clip_embed_text('a', 'emoji'), {labels}, {templates}, 'emoji')");
        let error = client.batch_execute(&classify).unwrap_err();
        assert_eq!(sqlstate(&error), &expected, "{classify}: {error:?}");
    }
    assert_eq!(processes(&mut client), found);
}
