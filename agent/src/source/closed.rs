//! Closed five-tuples: let go of once their TIME-WAIT is over, by looking through their tables a part at a time.

use super::maps::Key;
use crate::sys::map::{self, Cursor};
use agent_ebpf::flow::Closed;
use std::{io, os::fd::BorrowedFd};

/// What is let go of at once.
const AT_ONCE: usize = 1024;

/// How far a family's table has been looked through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    here: Cursor,
    /// Entries that were found so far, and stay.
    pub found: u64,
    /// It has been looked through.
    pub done: bool,
}

/// What is to be looked through, of IPv4 and of IPv6.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Where it goes on.
    pub from: [Turn; 2],
    /// Entries after which it is enough, or a batch more.
    pub most: [u64; 2],
}

impl Part {
    /// All of it, from the beginning.
    pub fn whole() -> Self {
        Self { from: Default::default(), most: [u64::MAX; 2] }
    }
}

/// Goes on through a table and deletes what `is_over`. What is there from the beginning of a turn to its end is looked at once.
pub(super) fn go_on<K: Key>(
    table: BorrowedFd<'_>,
    mut turn: Turn,
    most: u64,
    is_over: impl Fn(&K, &Closed) -> bool,
) -> io::Result<Turn> {
    if turn.done {
        return Ok(turn);
    }
    let (mut over, mut found, mut deleted) = (Vec::with_capacity(AT_ONCE), 0, Ok(()));
    turn.done = map::walk(table, 0, &mut turn.here, most, |key: &K, closed: &Closed| {
        if deleted.is_err() || !is_over(key, closed) {
            found += 1;
            return;
        }
        over.push(*key);
        if over.len() == AT_ONCE {
            deleted = map::delete_all(table, &over);
            over.clear();
        }
    })?;
    deleted?;
    map::delete_all(table, &over)?;
    turn.found += found;
    Ok(turn)
}
