//! One capture through the kernel programs' code: the tables, the clock of the capture, and who forgets.
//!
//! Unlike the kernel's programs it looks into tunnels: what is captured on a tunnel's way is judged as well as it can be.

use super::file::Packet;
use crate::{
    aggregate::rows::{Sight, nanos},
    config::Watch,
    source::{
        host::{Host, Judged, Room},
        services,
    },
};
use agent_ebpf::{
    label::Direction,
    layout::{Config, HealthCounts, Totals},
    record::Record,
    sighting::Settings,
    time::Nanos,
};

/// The one interface of a capture. Which way a packet passed it a file does not say: all count as coming in.
const INTERFACE: u32 = 1;
/// How often, in the capture's time, the silent are ended and the ended forgotten.
const SWEEP: Nanos = Nanos(10_000_000_000);
/// Records that wait to be handed out.
const RECORDS: usize = 256;
/// Room for connections. No capture of a real gateway needs more at once; beyond, memory would.
const ROOM: Room =
    Room { flows: [1 << 20; 2], half_open: [1 << 20; 2], scores: [1 << 19; 2], closed: 1 << 21 };

/// Judges the packets of one capture, in the order they come in.
pub struct Judge<'a> {
    host: Host,
    watch: &'a Watch,
    /// From the first packet to the latest.
    span: Option<(Nanos, Nanos)>,
    swept: Nanos,
    /// Who is shown the flows that have ended when they go.
    settled: Box<dyn FnMut(Sight) + 'a>,
}

impl<'a> Judge<'a> {
    /// With these services and limits.
    pub fn new(watch: &'a Watch) -> Self {
        let services = watch.services.len() as u32 + 1;
        let config =
            Config { points: 1, services, test_clock: 0, xdp_frags: 0, coarse_clock: 0, own_lock: 0 };
        let limits = &watch.limits;
        let settings = Settings { idle: nanos(limits.idle), time_wait: nanos(limits.time_wait), full: 0 };
        let mut host = Host::new(config, settings, ROOM);
        host.watch(INTERFACE, 0);
        host.serve(services::entries((1..).zip(&watch.services)));
        Self { host, watch, span: None, swept: Nanos(0), settled: Box::new(drop) }
    }

    /// The same, and shows the flows that have ended to `settled` when it forgets them.
    pub fn showing(watch: &'a Watch, settled: impl FnMut(Sight) + 'a) -> Self {
        Self { settled: Box::new(settled), ..Self::new(watch) }
    }

    /// Takes a packet; what came of it, unless it was skipped.
    pub fn take(&mut self, packet: &Packet<'_>) -> Option<Judged<'_>> {
        self.go_on(packet);
        self.host.feed(packet, INTERFACE, Direction::Ingress, packet.at)
    }

    /// Takes a packet of which only the counts and records are wanted.
    pub fn pass(&mut self, packet: &Packet<'_>) {
        self.go_on(packet);
        self.host.pass(packet, INTERFACE, Direction::Ingress, packet.at);
    }

    /// Moves the clock on to a packet.
    fn go_on(&mut self, packet: &Packet<'_>) {
        let now = packet.at;
        let (first, last) = self.span.unwrap_or((now, now));
        self.span = Some((first.min(now), last.max(now)));
        if now.since(self.swept) > SWEEP.0 {
            // Before the packet: one that comes after too long a silence is another connection's.
            self.host.sweep(now, &self.watch.limits, &mut self.settled);
            self.swept = now;
        }
    }

    /// Hands out what was recorded, once it is worth while.
    pub fn records(&mut self, each: impl FnMut(Record)) {
        if self.host.pending_records() >= RECORDS {
            self.all_records(each);
        }
    }

    /// Hands out all that was recorded.
    pub fn all_records(&mut self, mut each: impl FnMut(Record)) {
        // They were made a moment ago, by this program.
        self.host.drain_records(|bytes| Record::decode(bytes).into_iter().for_each(&mut each));
    }

    /// What it knows at the end.
    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    /// When the first and the last packet came.
    pub fn span(&self) -> Option<(Nanos, Nanos)> {
        self.span
    }

    /// Counts of each service.
    pub fn totals(&mut self) -> Vec<Totals> {
        let services = 0..=self.watch.services.len() as u16;
        services.filter_map(|svc| self.host.totals(0, svc, Direction::Ingress).copied()).collect()
    }

    /// Counts of what was skipped, and what went short.
    pub fn health(&mut self) -> HealthCounts {
        self.host.health(0, Direction::Ingress).copied().unwrap_or_default()
    }
}
