//! Embeddings of our own in statements: which source each of them belongs to.
//!
//! The trigger does not trust an embedding that a statement writes. It recognizes the embeddings that this process has computed:
//! those that a fill stores, those in a row that the server moves to another partition, and the last one of a column that keeps
//! the embeddings of writers, which an upsert may pass on.

use std::cell::{Cell, RefCell};
use std::thread::LocalKey;

use pgrx::pg_sys;

use crate::pg::varlena::{Fingerprint, Varlena};

/// An embedding that this process has computed, with its source.
struct Pair {
    /// The digest of the model.
    digest: String,
    source: String,
    vector: Box<[u8]>,
}

/// A pair that an update did not change. Both values are compared by fingerprint, so that none is detoasted.
struct Unchanged {
    digest: String,
    source: Fingerprint,
    vector: Fingerprint,
    command: Command,
}

/// The transaction and the command that run now.
#[derive(PartialEq)]
struct Command(pg_sys::TimestampTz, pg_sys::CommandId);

/// How an embedding that a row brings relates to one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is not ours.
    Foreign,
    /// It is ours, and belongs to the row's source.
    Matching,
    /// It is ours, and belongs to another source.
    Mismatched,
}

thread_local! {
    /// The pair that a fill stores now.
    static STORED: RefCell<Option<Pair>> = const { RefCell::new(None) };
    /// True if the trigger skipped the row of STORED, because another trigger had changed its source.
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
    /// The pair in the row of a partition that was updated last.
    static MOVED: RefCell<Option<Unchanged>> = const { RefCell::new(None) };
    /// The pair that was computed last for a column that keeps the embeddings of writers.
    static COMPUTED: RefCell<Option<Pair>> = const { RefCell::new(None) };
}

impl Pair {
    fn new(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) -> Self {
        Self { digest: digest.into(), source: clip::digest(source.detoast()), vector: vector.detoast().into() }
    }

    fn has_source(&self, source: Option<Varlena<'_>>) -> bool {
        source.is_some_and(|source| self.source == clip::digest(source.detoast()))
    }

    fn origin(&self, digest: &str, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
        if self.digest != digest || *self.vector != *vector.detoast() {
            Origin::Foreign
        } else if self.has_source(source) {
            Origin::Matching
        } else {
            Origin::Mismatched
        }
    }
}

impl Command {
    fn current() -> Self {
        // SAFETY: both functions read variables of this process.
        unsafe { Self(pg_sys::GetCurrentTransactionStartTimestamp(), pg_sys::GetCurrentCommandId(false)) }
    }
}

/// Runs `run`, which stores an embedding that was computed from a source. Returns true, too, if the trigger skipped the row.
pub fn while_storing<T>(digest: &str, source: Varlena<'_>, vector: Varlena<'_>, run: impl FnOnce() -> T) -> (T, bool) {
    /// Restores the state of the fill around this one, also on a panic.
    struct Before(Option<Pair>, bool);
    impl Drop for Before {
        fn drop(&mut self) {
            STORED.set(self.0.take());
            SKIPPED.set(self.1);
        }
    }
    let _before = Before(STORED.replace(Some(Pair::new(digest, source, vector))), SKIPPED.replace(false));
    let done = run();
    (done, SKIPPED.get())
}

/// Relates a written embedding to the one that a fill stores now.
pub fn of_fill(digest: &str, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    relate(&STORED, digest, source, vector)
}

fn relate(
    pair: &'static LocalKey<RefCell<Option<Pair>>>,
    digest: &str,
    source: Option<Varlena<'_>>,
    vector: Varlena<'_>,
) -> Origin {
    pair.with_borrow(|pair| pair.as_ref().map_or(Origin::Foreign, |pair| pair.origin(digest, source, vector)))
}

/// Records that the trigger skips the row of a fill if the row had the source of the fill before. Returns whether it did.
pub fn skip(source_before: Option<Varlena<'_>>) -> bool {
    let skips = STORED.with_borrow(|pair| pair.as_ref().is_some_and(|pair| pair.has_source(source_before)));
    SKIPPED.set(SKIPPED.get() || skips);
    skips
}

/// Records an embedding that the trigger has computed.
pub fn computed(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) {
    COMPUTED.set(Some(Pair::new(digest, source, vector)));
}

/// Relates a written embedding to the one that the trigger computed last.
pub fn of_trigger(digest: &str, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    relate(&COMPUTED, digest, source, vector)
}

/// Records the pair of a partition's row that an update may move.
pub fn remember(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) {
    MOVED.set(Some(Unchanged {
        digest: digest.into(),
        source: source.fingerprint(),
        vector: vector.fingerprint(),
        command: Command::current(),
    }));
}

/// Relates an inserted embedding to the row of a partition that was updated last.
pub fn of_moved_row(digest: &str, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    MOVED.with_borrow(|moved| match moved {
        Some(moved) if moved.digest == digest && moved.vector == vector.fingerprint() => {
            match source.is_some_and(|source| moved.source == source.fingerprint()) {
                true => Origin::Matching,
                // Another command may insert the same embedding on purpose.
                false if moved.command == Command::current() => Origin::Mismatched,
                false => Origin::Foreign,
            }
        }
        _ => Origin::Foreign,
    })
}
