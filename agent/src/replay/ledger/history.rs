//! End points that were used before, as many as there is room for.

use agent_ebpf::{flow::FlowKey, time::Nanos};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Entries of each of the two generations.
const GENERATION: usize = 1 << 18;

/// The connection that had the end points before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its last FIN or RST.
    pub closed_at: Option<Nanos>,
    /// Its last packet.
    pub last_seen: Nanos,
    /// How it closed, in the schema's words.
    pub close: &'static str,
}

/// What is remembered. When the new generation is full the old one is forgotten, and the new one grows old.
#[derive(Default)]
pub(super) struct History {
    new: HashMap<FlowKey, Previous, RandomState>,
    old: HashMap<FlowKey, Previous, RandomState>,
}

impl History {
    pub(super) fn put(&mut self, key: FlowKey, previous: Previous) {
        if self.new.len() >= GENERATION {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, previous);
    }

    pub(super) fn take(&mut self, key: &FlowKey) -> Option<Previous> {
        let newest = self.new.remove(key);
        newest.or_else(|| self.old.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::flow::FlowKey4;

    fn key(n: u32) -> FlowKey {
        FlowKey::V4(FlowKey4 { ports: n, ..FlowKey4::default() })
    }

    #[test]
    fn the_newest_are_kept_and_memory_has_an_end() {
        let mut history = History::default();
        let last = 3 * GENERATION as u32;
        for n in 0..=last {
            history.put(key(n), Previous { closed_at: None, last_seen: Nanos(n.into()), close: "none" });
        }
        assert!(history.new.len() + history.old.len() <= 2 * GENERATION);
        assert_eq!(history.take(&key(0)), None);
        for n in [last, last - GENERATION as u32 + 1] {
            assert_eq!(history.take(&key(n)).map(|p| p.last_seen), Some(Nanos(n.into())));
            assert_eq!(history.take(&key(n)), None);
        }
    }
}
