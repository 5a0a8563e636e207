//! The start of all fuzz targets.

/// Libraries may panic where that is caught: the fuzzer's own hook would end the process before.
pub fn begin() {
    std::panic::set_hook(Box::new(|panic| {
        // To see the panic of a found input: FUZZ_PANICS=1 target/fuzz/build/…/TARGET FILE
        if std::env::var_os("FUZZ_PANICS").is_some() {
            eprintln!("{panic}");
        }
    }));
}
