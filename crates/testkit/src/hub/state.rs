//! What the hub has and does: repositories, and the faults that tests ask for.

use super::store::Store;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The token that may read and write everything.
pub const TOKEN: &str = "hf_local0secret0token0";

/// How a request is answered wrongly.
#[derive(Clone, Debug)]
pub enum Fault {
    /// With this status, and these headers.
    Status(u16, &'static str),
    /// Not at all: the connection is closed.
    Drop,
    /// Rightly, but the connection is closed after so many bytes of the body.
    Cut(usize),
    /// With so many bytes of the body, and as if these were all.
    Short(usize),
    /// With one bit of the body flipped, that of the byte at this place.
    Flip(usize),
    /// From the first byte on, whatever range was asked for.
    IgnoreRange,
    /// Rightly, and it is acted upon, but the answer gets lost.
    LoseAnswer,
}

/// Which requests a fault happens to.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method, such as `GET`; empty for all.
    pub method: &'static str,
    /// A part of the path.
    pub path: String,
    /// How many of them pass before.
    pub skip: usize,
    /// How many of them it happens to.
    pub times: usize,
    /// What happens.
    pub fault: Fault,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) store: Mutex<Store>,
    pub(super) rules: Mutex<Vec<Rule>>,
    pub(super) requests: Mutex<Vec<String>>,
    pub(super) leaks: Mutex<Vec<String>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
