//! Pairs of a source and an embedding that is known to match it, although the trigger did not compute it.
//!
//! The trigger replaces an embedding that a statement writes. There are two exceptions: a fill of this process, which stores an
//! embedding that it has computed, and the server, which inserts a row again when an update moves it to another partition.

use std::cell::RefCell;

use crate::pg::varlena::{Fingerprint, Varlena};

/// The pair that a fill stores.
struct Pair {
    /// The digest of the model.
    digest: String,
    source: String,
    vector: Box<[u8]>,
}

/// A pair that an update did not change. Both values are compared by fingerprint, so that none is detoasted.
#[derive(PartialEq)]
struct Unchanged {
    digest: String,
    source: Fingerprint,
    vector: Fingerprint,
}

thread_local! {
    /// The pair that a fill stores now.
    static STORED: RefCell<Option<Pair>> = const { RefCell::new(None) };
    /// The pair in the row of a partition that was updated last.
    static MOVED: RefCell<Option<Unchanged>> = const { RefCell::new(None) };
}

impl Pair {
    fn new(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> Self {
        Self { digest: digest.into(), source: clip::digest(source.detoast()), vector: vector.detoast().into() }
    }

    fn is(&self, digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> bool {
        self.digest == digest && *self.vector == *vector.detoast() && self.source == clip::digest(source.detoast())
    }
}

impl Unchanged {
    fn new(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> Self {
        Self { digest: digest.into(), source: source.fingerprint(), vector: vector.fingerprint() }
    }
}

/// Runs `run`, which stores an embedding that was computed from a source.
pub fn while_storing<T>(digest: &str, source: Varlena<'_>, vector: Varlena<'_>, run: impl FnOnce() -> T) -> T {
    /// Restores the pair of the fill around this one, also on a panic.
    struct Before(Option<Pair>);
    impl Drop for Before {
        fn drop(&mut self) {
            STORED.set(self.0.take());
        }
    }
    let _before = Before(STORED.replace(Some(Pair::new(digest, source, vector))));
    run()
}

/// Records the pair of a partition's row that an update may move.
pub fn remember(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) {
    MOVED.set(Some(Unchanged::new(digest, source, vector)));
}

/// Returns true if a fill stores this pair now.
pub fn are_stored(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> bool {
    STORED.with_borrow(|pair| pair.as_ref().is_some_and(|pair| pair.is(digest, source, vector)))
}

/// Returns true if the last update of a partition's row had this pair. Then the server moves that row.
pub fn are_moved(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> bool {
    MOVED.with_borrow(|pair| pair.as_ref().is_some_and(|pair| *pair == Unchanged::new(digest, source, vector)))
}
