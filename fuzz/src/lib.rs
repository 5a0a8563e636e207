//! The common start of all fuzz targets.

/// Replaces the fuzzer's panic hook, which would end the process before a caught panic of a library is caught.
pub fn begin() {
    std::panic::set_hook(Box::new(|panic| {
        // To see a panic: FUZZ_PANICS=1 target/fuzz/build/…/TARGET FILE
        if std::env::var_os("FUZZ_PANICS").is_some() {
            eprintln!("{panic}");
        }
    }));
}
