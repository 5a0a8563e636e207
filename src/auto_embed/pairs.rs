//! Pairs of source and vector that are known to belong together, though the vector was not computed now.
//!
//! A vector that a statement writes is not believed. Two writers are: a fill of this process, which stores what it has
//! computed, and the server, which inserts a row anew where an update moves it to another partition.

use std::cell::RefCell;

use crate::datum::Varlena;

struct Pair {
    /// The digest of the model.
    digest: String,
    source: String,
    vector: Box<[u8]>,
}

thread_local! {
    /// What a fill stores now.
    static STORED: RefCell<Option<Pair>> = const { RefCell::new(None) };
    /// What the last update of a partition's row left as it was.
    static MOVED: RefCell<Option<Pair>> = const { RefCell::new(None) };
}

impl Pair {
    fn new(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> Self {
        Self { digest: digest.into(), source: clip::digest(source.detoast()), vector: vector.detoast().into() }
    }

    fn is(&self, digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> bool {
        self.digest == digest && *self.vector == *vector.detoast() && self.source == clip::digest(source.detoast())
    }
}

/// Run something that stores a vector which was computed from a source.
pub fn while_storing<T>(digest: &str, source: Varlena<'_>, vector: Varlena<'_>, run: impl FnOnce() -> T) -> T {
    /// Puts back what a fill around this one stores, whatever happens.
    struct Before(Option<Pair>);
    impl Drop for Before {
        fn drop(&mut self) {
            STORED.set(self.0.take());
        }
    }
    let _before = Before(STORED.replace(Some(Pair::new(digest, source, vector))));
    run()
}

/// Remember the pair of a partition's row that an update may move.
pub fn remember(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) {
    MOVED.set(Some(Pair::new(digest, source, vector)));
}

pub fn are_known(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> bool {
    let known = |pair: &Option<Pair>| pair.as_ref().is_some_and(|pair| pair.is(digest, source, vector));
    STORED.with_borrow(known) || MOVED.with_borrow(known)
}
