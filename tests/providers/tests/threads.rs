//! OpenVINO starts as many threads as the options say, however many cores there are. A process of its own, because it
//! counts the threads of the process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clip::{Choices, Options, Provider};
use providers::{Store, library, options};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn threads_are_bounded() {
    let store = Store::new(library(Provider::OpenVino));
    store.add("models/emoji", "emoji", &Choices::default());
    let before = threads();
    let mut most = Vec::new();
    for wanted in [1, 4] {
        let options = Options { threads: wanted, ..options(&store.library, Provider::OpenVino) };
        let mut model = store.open("emoji");
        for _ in 0..3 {
            model.embed_texts(&["a red car", "two dogs"], &options).unwrap();
        }
        most.push(threads() - before);
    }
    println!("threads in addition to {before}: {most:?}");
    // OpenVINO has a thread of its own that waits for requests.
    assert!(most[0] <= 2 && most[1] <= 2 * 4 + 2, "{most:?}");
}
