//! Prints the time and the memory that models take with execution providers, on one thread:
//!
//!     providers LIBRARY DIRECTORY NAME:PROVIDER…     DIRECTORY has the models of `pgclip --model-path`
//!
//! Several models are measured in turns, so that other load on the machine affects all of them. The processor time is
//! that of the process, so it does not have the time of other processes.

#![allow(clippy::unwrap_used, reason = "an example fails by panicking")]

use std::path::Path;
use std::time::Instant;

use clip::{Format, Limits, Model, Options, Overflow, Provider, Tower};

unsafe extern "C" {
    fn malloc_trim(pad: usize) -> i32;
    fn clock() -> std::ffi::c_long;
}

/// Turns of each kind of work.
const TURNS: usize = 15;

/// A text of 10 tokens of CLIP, begin and end included.
const TEXT: &str = "a small white dog on a sofa";

/// Returns a line of `/proc/self/status` in MB.
fn megabytes(title: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(title)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024 / 1_000_000
}

/// Returns the processor time of the process in milliseconds.
fn processor_time() -> f64 {
    // SAFETY: a function of the C library that any thread may call. Its unit is a microsecond on POSIX systems.
    unsafe { clock() as f64 / 1e3 }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, directory, models @ ..] = arguments.as_slice() else {
        panic!("usage: providers LIBRARY DIRECTORY NAME:PROVIDER…")
    };
    let options = |provider| Options {
        runtime: std::path::absolute(library).unwrap(),
        provider,
        prepared: None,
        threads: 1,
        batch_size: 16,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
        interrupted: || false,
    };
    let mut opened = Vec::new();
    for of in models {
        let (name, provider) = of.split_once(':').unwrap();
        let options = options(Provider::named(provider).unwrap());
        let mut model = Model::open(&Path::new(directory).join(name), name, || false).unwrap();
        for tower in Tower::BOTH {
            let (before, began) = (megabytes("RssAnon:"), processor_time());
            model.load(tower, &options).unwrap();
            let (busy, held) = (processor_time() - began, megabytes("RssAnon:"));
            // SAFETY: a function of the C library that any thread may call.
            unsafe { malloc_trim(0) };
            println!(
                "{of} {}: loaded in {:.1} s ({:.1} s of the processor), {} MB of private memory, {} MB until it is trimmed, \
                 peak of the process {} MB",
                tower.name(),
                model.usage(tower).unwrap().load_time.as_secs_f64(),
                busy / 1e3,
                megabytes("RssAnon:").saturating_sub(before),
                held.saturating_sub(before),
                megabytes("VmHWM:"),
            );
        }
        opened.push((of, model, options));
    }
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images/rgb_444.jpg");
    let image = std::fs::read(image).unwrap();
    for (what, items) in [("one text", 1), ("a text in a batch of 16", 16), ("one image", 0)] {
        let mut times: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); opened.len()];
        for _ in 0..TURNS {
            for ((_, model, options), (busy, passed)) in opened.iter_mut().zip(&mut times) {
                let (start, began) = (Instant::now(), processor_time());
                match items {
                    0 => drop(model.embed_images(&[&image], options).unwrap()),
                    _ => drop(model.embed_texts(&vec![TEXT; items], options).unwrap()),
                }
                let each = items.max(1) as f64;
                busy.push((processor_time() - began) / each);
                passed.push(start.elapsed().as_secs_f64() * 1e3 / each);
            }
        }
        for ((of, ..), (busy, passed)) in opened.iter().zip(&mut times) {
            busy.sort_by(f64::total_cmp);
            passed.sort_by(f64::total_cmp);
            println!(
                "{of}, {what}: {:.1} ms of the processor in the median, fastest {:.1} ms",
                busy[TURNS / 2],
                passed[0]
            );
        }
    }
}
