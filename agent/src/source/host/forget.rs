//! What the daemon's sweep does to the kernel's tables, done to those of the host.

use super::{Host, Tables, counts};
use crate::{
    aggregate::rows::{Sight, nanos},
    config::Limits,
    source::sweep::{CLOSED_MARGIN, Fate, count_end, fate, head},
};
use agent_ebpf::{
    close::end,
    flow::{Closed, Flow, FlowKey},
    label::Direction,
    layout::totals_index,
    pipeline::World as _,
    record::EndRecord,
    time::Nanos,
    traffic::Close,
};

impl Host {
    /// Ends what has been silent too long by `now`, with a record each, and forgets what has ended.
    ///
    /// An ended flow stays for the TIME-WAIT window, and not for the second that the kernel's tables have room for: what
    /// its ends still repeat is judged and not only counted. It is shown to `settled` when it goes.
    pub fn sweep(&mut self, now: Nanos, limits: &Limits, mut settled: impl FnMut(Sight)) {
        let Tables { flows, half_open, .. } = &mut self.tables;
        let mut over = Vec::new();
        for table in [flows, half_open] {
            let what = |flow: &Flow| fate(flow, now, limits, limits.time_wait, limits.handshake_timeout);
            let gone = table.take(|_, flow| what(flow) != Fate::Keep);
            over.extend(gone.into_iter().map(|(key, flow)| (key, flow, what(&flow))));
        }
        for (key, flow, fate) in over {
            if let Fate::End(close) = fate {
                self.end(key, flow, close, now);
            } else if !flow.has(Flow::MOVED) {
                settled(Sight { key, flow, counts: counts(&mut self.tables.scores, &key, &flow) });
            }
            self.tables.scores.remove(&key);
        }
        let limit = nanos(limits.time_wait + CLOSED_MARGIN);
        self.tables.closed.get_mut().retain(|_, closed| now.since(closed.at) <= limit);
    }

    fn end(&mut self, key: FlowKey, mut flow: Flow, close: Close, now: Nanos) {
        let end = end(&mut flow, close);
        let config = self.tables.config;
        let index = totals_index(config.services, key.point(), flow.svc, Direction::Ingress);
        if let Some(totals) = self.tables.totals.get_mut(index as usize) {
            count_end(totals.get_mut(), &flow, end);
        }
        if flow.closed() {
            self.tables.remember(&key, &Closed::of(&flow));
        }
        let counts = counts(&mut self.tables.scores, &key, &flow);
        self.tables.submit(|record: *mut EndRecord| {
            let ended = EndRecord { head: head(key, &flow, now), counts, flow };
            // SAFETY: `submit` hands out memory of a record's size.
            unsafe { record.write(ended) }
        });
    }
}
