//! Embeddings of our own in statements: which source each of them belongs to.
//!
//! The trigger does not trust an embedding that a statement writes. It recognizes embeddings of which this process knows the source:
//! those that a fill stores, those in a row that the server moves to another partition, and those of a column that keeps the
//! embeddings of writers, which an upsert may pass on.

use std::cell::{Cell, LazyCell, RefCell};
use std::collections::VecDeque;

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
    column: Kind,
    source: Fingerprint,
    vector: Fingerprint,
}

/// The model of a column, and whether the column keeps embeddings of writers, whose sources are not known.
#[derive(PartialEq)]
struct Kind {
    digest: String,
    keeps: bool,
}

/// The last pairs of a statement of the client. Between the two events that a pair connects, triggers of the same row may add others:
/// those of other columns, and of rows that a trigger writes.
struct Recent<T> {
    begun: pg_sys::TimestampTz,
    pairs: VecDeque<T>,
}

/// Far more than the columns of a table and the rows that a trigger writes for one row.
const MAX_RECENT: usize = 64;

/// How an embedding that a row brings relates to one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is not ours.
    Foreign,
    /// It is ours, and belongs to another source.
    Mismatched,
    /// It is ours, and belongs to the row's source.
    Matching,
}

thread_local! {
    /// The pair that a fill stores now.
    static STORED: RefCell<Option<Pair>> = const { RefCell::new(None) };
    /// True if the trigger skipped the row of STORED, because another trigger had changed its source.
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
    /// The pairs in the rows of partitions that were updated.
    static MOVED: RefCell<Recent<Unchanged>> = const { RefCell::new(Recent::new()) };
    /// The pairs that were computed for columns that keep the embeddings of writers.
    static COMPUTED: RefCell<Recent<Pair>> = const { RefCell::new(Recent::new()) };
}

impl<T> Recent<T> {
    const fn new() -> Self {
        Self { begun: 0, pairs: VecDeque::new() }
    }

    fn add(&mut self, pair: T) {
        // SAFETY: reads a variable of this process.
        let begun = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
        if self.begun != begun {
            self.pairs.clear();
            self.begun = begun;
        }
        if self.pairs.len() == MAX_RECENT {
            self.pairs.pop_front();
        }
        self.pairs.push_back(pair);
    }

    /// Relates a written embedding to the pairs of this statement. One that matches decides.
    fn origin(&self, of_pair: impl Fn(&T) -> Origin) -> Origin {
        // SAFETY: as above.
        if self.begun != unsafe { pg_sys::GetCurrentStatementStartTimestamp() } {
            return Origin::Foreign;
        }
        self.pairs.iter().map(of_pair).max().unwrap_or(Origin::Foreign)
    }
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
    STORED.with_borrow(|pair| pair.as_ref().map_or(Origin::Foreign, |pair| pair.origin(digest, source, vector)))
}

/// Records that the trigger skips the row of a fill if the row had the source of the fill before. Returns whether it did.
pub fn skip(source_before: Option<Varlena<'_>>) -> bool {
    let skips = STORED.with_borrow(|pair| pair.as_ref().is_some_and(|pair| pair.has_source(source_before)));
    SKIPPED.set(SKIPPED.get() || skips);
    skips
}

/// Records an embedding that the trigger has computed.
pub fn computed(digest: &str, source: Varlena<'_>, vector: Varlena<'_>) {
    let pair = Pair::new(digest, source, vector);
    COMPUTED.with_borrow_mut(|recent| recent.add(pair));
}

/// Relates a written embedding to those that the trigger has computed for this statement.
pub fn of_trigger(digest: &str, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    COMPUTED.with_borrow(|recent| recent.origin(|pair| pair.origin(digest, source, vector)))
}

/// Records the pair of a partition's row that an update may move.
pub fn remember(digest: &str, keeps: bool, source: Varlena<'_>, vector: Varlena<'_>) {
    let column = Kind { digest: digest.into(), keeps };
    let pair = Unchanged { column, source: source.fingerprint(), vector: vector.fingerprint() };
    MOVED.with_borrow_mut(|recent| recent.add(pair));
}

/// Relates an inserted embedding to the rows of partitions that this statement has updated.
pub fn of_moved_row(digest: &str, keeps: bool, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    let column = Kind { digest: digest.into(), keeps };
    let (source, vector) = (LazyCell::new(|| source.map(Varlena::fingerprint)), LazyCell::new(|| vector.fingerprint()));
    MOVED.with_borrow(|recent| {
        recent.origin(|pair| match pair.column == column && pair.vector == *vector {
            false => Origin::Foreign,
            true if source.as_ref() == Some(&pair.source) => Origin::Matching,
            true => Origin::Mismatched,
        })
    })
}
