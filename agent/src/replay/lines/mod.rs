//! The output as JSON lines: the accuracy benchmark's schema, and beside it what the core says more finely.

mod flow;
mod packet;
mod values;

use super::{
    file::Packet,
    labels::Labels,
    ledger::{Account, Ledger},
};
use crate::{
    cli,
    config::{OTHER_SERVICE, Watch},
    source::host::Judged,
};
use agent_ebpf::time::Nanos;
use flow::FlowLine;
use packet::PacketLine;
use serde::Serialize;
use std::io::{self, Write};

/// How often, in the capture's time, connections that have ended are written.
const SWEEP: Nanos = Nanos(10_000_000_000);

/// Where lines go.
pub struct Lines<'a, W> {
    out: W,
    watch: &'a Watch,
    packets: bool,
    flows: bool,
    /// Connections written in earlier captures: their numbers go on.
    numbers: u64,
}

/// The lines of one capture.
pub struct CaptureLines<'l, 'a, W> {
    to: &'l mut Lines<'a, W>,
    ledger: Ledger,
    point: &'l str,
    swept: Nanos,
    /// Why a line could not be written.
    failed: Option<io::Error>,
}

impl<'a, W: Write> Lines<'a, W> {
    /// Writes these lines to `out`; all where none are named.
    pub fn new(out: W, watch: &'a Watch, only: Option<cli::Lines>) -> Self {
        let packets = only != Some(cli::Lines::Flows);
        let flows = only != Some(cli::Lines::Packets);
        Self { out, watch, packets, flows, numbers: 0 }
    }

    /// Begins the lines of a capture.
    pub fn capture<'l>(&'l mut self, point: &'l str) -> CaptureLines<'l, 'a, W> {
        let ledger = Ledger::new(self.numbers);
        CaptureLines { to: self, ledger, point, swept: Nanos(0), failed: None }
    }

    /// Writes what is still held back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    fn flow(&mut self, point: &str, account: &Account) -> io::Result<()> {
        if !self.flows {
            return Ok(());
        }
        let svc = match account.svc.checked_sub(1).and_then(|n| self.watch.services.get(usize::from(n))) {
            Some(service) => &service.name,
            None => OTHER_SERVICE,
        };
        self.line(&FlowLine::of(account, point, svc))
    }
}

impl<W: Write> CaptureLines<'_, '_, W> {
    /// Writes a packet's line, and those of the connections that have ended.
    pub fn packet(&mut self, packet: &Packet<'_>, judged: &Judged<'_>) -> io::Result<()> {
        let Self { to, ledger, point, swept, failed } = self;
        let limits = &to.watch.limits;
        let mut done = |account: Account| {
            if let Err(error) = to.flow(point, &account) {
                failed.get_or_insert(error);
            }
        };
        if packet.at.since(*swept) > SWEEP.0 {
            ledger.sweep(packet.at, limits, &mut done);
            *swept = packet.at;
        }
        let entered = ledger.enter(packet, judged, &mut done);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if !to.packets {
            return Ok(());
        }
        let labels = Labels::of(judged, entered.reused);
        to.line(&PacketLine::of(packet, judged, labels, entered.flow, point))
    }

    /// Writes the lines of the connections that are left.
    pub fn finish(self) -> io::Result<()> {
        let Self { to, ledger, point, .. } = self;
        let mut failed = None;
        let next = ledger.finish(|account| {
            if let Err(error) = to.flow(point, &account) {
                failed.get_or_insert(error);
            }
        });
        to.numbers = next;
        failed.map_or(Ok(()), Err)
    }
}
