//! Variables of the environment that libraries read when they are first used.

/// Backtraces in errors: every user would see them, and making one takes megabytes where memory may just have run out.
const BACKTRACE_OF_ERRORS: &str = "RUST_LIB_BACKTRACE";

/// Sets the variables that libraries read from the environment when they are first used. For ONNX Runtime see
/// [`clip::TELEMETRY_OFF`].
pub fn set() {
    let wanted = clip::TELEMETRY_OFF.map(|name| (name, "1")).into_iter();
    // A server that was started with them, or that has pg_clip preloaded, has nothing left to set here.
    let wanted = wanted.filter(|(name, value)| std::env::var_os(name).is_none_or(|present| present != *value));
    let quiet = std::env::var_os(BACKTRACE_OF_ERRORS).is_none().then_some((BACKTRACE_OF_ERRORS, "0"));
    for (name, value) in wanted.chain(quiet) {
        // SAFETY: called from _PG_init. A process of the server has one thread, and when the library is preloaded no other
        // code of ours or of a session has run. Another library may have started threads before a session loads this one
        // (numpy in PL/Python does). They could read the environment at this moment, which libraries do when they start:
        // docs/operations/hardening.md advises to preload pg_clip next to such libraries. Telemetry must not stay on because of them.
        unsafe { std::env::set_var(name, value) };
    }
}
