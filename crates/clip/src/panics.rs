//! Catches panics in third-party libraries, because this crate promises never to panic on user input.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    /// True while this thread is inside [`catch_panic`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Returns the result of `work`, or None if it panicked. `work` must not leave state half-changed that outlives it.
/// Nothing is printed. The message of a panic would otherwise go to standard error, which is the server's log.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if !CATCHING.get() {
                former(panic);
            }
        }));
    });
    let was_catching = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    CATCHING.set(was_catching);
    result
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Mutex;

    use super::*;
    use crate::threads::in_parallel;

    const THREADS: usize = 2;

    /// The output of another process is what this test's harness prints.
    #[test]
    fn panics_print_nothing_in_any_thread() {
        let this = std::env::current_exe().unwrap();
        let test = "panics::tests::panics_become_nothing";
        let output = Command::new(this).args([test, "--exact", "--nocapture"]).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
        assert!(!printed.contains("panicked") && !printed.contains("of a decoder"), "{printed}");
    }

    #[test]
    fn panics_become_nothing() {
        let both = std::sync::Barrier::new(THREADS);
        let results = Mutex::new(Vec::new());
        in_parallel(THREADS, 0..THREADS, |job| {
            // One job for each thread.
            both.wait();
            let result = catch_panic(|| if job < THREADS { panic!("of a decoder") } else { job });
            results.lock().unwrap().push(result);
            Ok(())
        })
        .unwrap();
        assert_eq!(results.into_inner().unwrap(), [None; THREADS]);
        assert_eq!(catch_panic(|| catch_panic(|| 7)), Some(Some(7)));
    }

    #[test]
    fn other_panics_are_reported_after_a_calm_one() {
        assert_eq!(catch_panic(|| -> u8 { panic!("of a decoder") }), None);
        assert!(!CATCHING.get());
    }
}
