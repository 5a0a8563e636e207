//! The server answers every image with an embedding or with an error that states the reason.

use e2e::{Cluster, picture, pid, root, shared_data, sqlstate};
use postgres::Client;
use postgres::error::SqlState;

const EMBED: &str = "SELECT vector_norm(clip_embed_image($1, 'narrow'))";

/// Returns the norm of the embedding, or the SQLSTATE.
fn embed(client: &mut Client, bytes: &[u8]) -> Result<f64, SqlState> {
    client.query_one(EMBED, &[&bytes]).map(|row| row.get(0)).map_err(|error| sqlstate(&error).clone())
}

fn is_fine(result: &Result<f64, SqlState>) -> bool {
    match result {
        Ok(norm) => (norm - 1.0).abs() < 1e-5,
        Err(state) => *state == SqlState::INVALID_BINARY_REPRESENTATION || *state == SqlState::PROGRAM_LIMIT_EXCEEDED,
    }
}

/// One backend must answer everything: a crash would end it.
#[test]
fn odd_files_give_a_vector_or_an_error() {
    let Some(data) = shared_data() else { return };
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let before = pid(&mut client);
    let mut files = 0;
    for entry in std::fs::read_dir(data.join("images/odd")).unwrap() {
        let path = entry.unwrap().path();
        let result = embed(&mut client, &std::fs::read(&path).unwrap());
        assert!(is_fine(&result), "{path:?}: {result:?}");
        files += 1;
    }
    assert_eq!(files, 107);
    assert_eq!(pid(&mut client), before);
}

/// Embeds all files that Pillow opens in the formats of pg_clip. pg_clip reads a JPEG if and only if Pillow reads it.
#[test]
fn images_that_pillow_reads_are_read() {
    let Some(data) = shared_data() else { return };
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let table = std::fs::read_to_string(data.join("images/odd_expected_pillow13.tsv")).unwrap();
    let mut refused = Vec::new();
    let mut read = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        if !["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"].contains(&fields[2]) {
            continue;
        }
        let result = embed(&mut client, &std::fs::read(data.join("images/odd").join(fields[0])).unwrap());
        if fields[1] != "ok" {
            assert!(fields[2] != "JPEG" || result.is_err(), "{}: Pillow refuses it", fields[0]);
            continue;
        }
        match result {
            Ok(_) => read += 1,
            Err(state) => {
                assert!(fields[2] != "JPEG", "{}: Pillow reads it: {state:?}", fields[0]);
                refused.push((fields[0].to_owned(), state));
            }
        }
    }
    println!("{read} read, refused: {refused:#?}");
    assert!(read >= 50, "only {read} were read");
    // An old-style JPEG in a TIFF, and a JPEG that is larger than its TIFF.
    assert!(refused.len() <= 2, "{} were refused", refused.len());
}

/// Files of public bug reports. `scripts/test/reported.sh` prints the similarity of the embeddings to those of Pillow's
/// pixels.
#[test]
fn reported_files_are_read() {
    /// The level of white in a floating-point number is unknown.
    const WITHOUT_A_SCALE: &str = "f32_grey.tif";
    let Some(data) = shared_data() else { return };
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let mut files = 0;
    for entry in std::fs::read_dir(data.join("reported")).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap().to_str().unwrap();
        if ["jpg", "png", "webp", "gif", "bmp", "tif"].contains(&extension) && !path.ends_with(WITHOUT_A_SCALE) {
            let result = embed(&mut client, &std::fs::read(&path).unwrap());
            assert!(matches!(result, Ok(norm) if (norm - 1.0).abs() < 1e-5), "{path:?}: {result:?}");
            files += 1;
        }
    }
    assert!(files >= 33, "{files}");
}

/// As in Pillow, half an image is an error, although a decoder could fill the rest with gray, or has the first frame.
#[test]
fn truncated_images_are_rejected() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let jpegs = ["rgb_444.jpg", "rgb_420.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "orientation_6.jpg"];
    for name in jpegs.into_iter().chain(["lossy.webp", "lossless_alpha.webp", "animated.webp"]) {
        let whole = picture(name);
        for cut in [1, 2, 3, 100, whole.len() / 2, whole.len() * 2 / 3] {
            let error = client.query_one(EMBED, &[&&whole[..whole.len() - cut]]).unwrap_err();
            assert_eq!(sqlstate(&error), &SqlState::INVALID_BINARY_REPRESENTATION, "{name}, {cut}");
            let detail = error.as_db_error().unwrap().detail().unwrap();
            assert!(detail.ends_with("it is truncated."), "{name}, {cut}: {detail}");
        }
    }
    for name in jpegs {
        let whole = picture(name);
        // Pillow, too, shows missing data in the middle as gray.
        assert!(embed(&mut client, &[&whole[..whole.len() * 2 / 3], b"\xff\xd9"].concat()).is_ok(), "{name}");
        assert!(embed(&mut client, &[&whole[..], b"something else"].concat()).is_ok(), "{name}");
    }
}

/// A generator of random numbers: the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator. Its high bits are sufficiently random to damage files.
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn ten_thousand_broken_files_give_a_vector_or_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let before = pid(&mut client);
    let mut names: Vec<_> = std::fs::read_dir(root().join("tests/fixtures/images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let files: Vec<Vec<u8>> = names.iter().map(|name| picture(name)).collect();
    let mut random = Random(20261123);
    let mut vectors = 0;
    for round in 0..10_000 {
        let mut file = files[random.below(files.len())].clone();
        match round % 3 {
            0 => file.truncate(random.below(file.len())),
            1 => {
                for _ in 0..=random.below(20) {
                    let at = random.below(file.len());
                    file[at] ^= 1 << random.below(8);
                }
            }
            _ => {
                let other = &files[random.below(files.len())];
                let (cut, from) = (random.below(file.len()), random.below(other.len()));
                file.truncate(cut);
                file.extend_from_slice(&other[from..]);
            }
        }
        let result = embed(&mut client, &file);
        assert!(is_fine(&result), "round {round}: {result:?}");
        vectors += usize::from(result.is_ok());
    }
    println!("{vectors} vectors, {} errors", 10_000 - vectors);
    assert!(vectors > 1_000 && vectors < 9_000, "{vectors}: the files were not broken as they should be");
    assert_eq!(pid(&mut client), before);
}

#[test]
fn limits_are_checked_before_anything_is_read() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE big AS SELECT convert_to(repeat('x', 3000000), 'UTF8') AS picture").unwrap();
    client.batch_execute("SET clip.max_image_bytes = '1MB'").unwrap();
    let error = client.query_one("SELECT clip_embed_image(picture, 'narrow')::text FROM big", &[]).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert_eq!(error.detail(), Some("The image has 3000000 bytes; the limit is 1048576."));

    client.batch_execute("SET clip.max_image_pixels = 16499").unwrap();
    assert_eq!(embed(&mut client, &picture("rgb_444.jpg")), Err(SqlState::PROGRAM_LIMIT_EXCEEDED));
    client.batch_execute("SET clip.max_image_pixels = 16500").unwrap();
    assert!(embed(&mut client, &picture("rgb_444.jpg")).is_ok());

    client.batch_execute("SET clip.image_formats = 'png'").unwrap();
    assert_eq!(embed(&mut client, &picture("rgb_444.jpg")), Err(SqlState::INVALID_BINARY_REPRESENTATION));
    assert!(embed(&mut client, &picture("grey.png")).is_ok());
}

#[test]
fn pictures_of_a_batch_are_decoded_on_all_granted_cores_with_the_same_vectors_and_errors() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let good: Vec<Vec<u8>> =
        ["rgb_444.jpg", "tall.png", "lossy.webp", "palette.png", "rgb_420.jpg"].map(picture).into();
    let batch = "SELECT embedding::text FROM clip_embed_images($1, 'narrow')";
    let embed = |client: &mut Client, threads: u32, pictures: &[Vec<u8>]| {
        client.batch_execute(&format!("SET clip.threads = {threads}")).unwrap();
        let rows = client.query(batch, &[&pictures])?;
        Ok::<Vec<String>, postgres::Error>(rows.iter().map(|row| row.get(0)).collect())
    };
    let many: Vec<_> = good.iter().cycle().take(20).cloned().collect();
    let alone = embed(&mut client, 1, &many).unwrap();
    assert_eq!(alone.len(), 20);
    assert_eq!(embed(&mut client, 3, &many).unwrap(), alone);
    // Several images are broken. The error names the first one.
    let mut broken = many.clone();
    broken[12] = b"no picture".to_vec();
    broken[13].truncate(100);
    let error = embed(&mut client, 3, &broken).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::INVALID_BINARY_REPRESENTATION);
    assert!(error.as_db_error().unwrap().detail().unwrap().starts_with("Element 13 "), "{error:?}");
    assert_eq!(embed(&mut client, 3, &good).unwrap(), alone[..5]);
}
