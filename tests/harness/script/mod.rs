//! Connections written down, one segment a line, for everything that takes frames and times: the kernel programs by
//! prog-test-run, the library on the host, a capture file, a raw port.
//!
//! ```text
//! # when  who flags  what
//! 0       C   S      mss=1460 sackok ws=7 ts=10:0
//! 10ms    S   S.     mss=1460 sackok ws=7 ts=90:10
//! +5ms    C   .
//! +1ms    C   P.     len=800
//! +200ms  C   P.     len=800 seq=1        # the same bytes again
//! +10ms   S   .      ack=801 sack=1-801   # says by D-SACK that they came twice
//! ```
//!
//! Times are `ns`, `us`, `ms` or `s` since the start, or with `+` since the line before. Flags are tcpdump's letters
//! (`S F R P . U E W`), `-` for none. Sequence numbers are relative to the initial one of their half. What is left out
//! follows from what was said before: `seq` goes on where the half is, `ack` acknowledges all the other half has said,
//! `id` grows by one.

mod parse;
pub mod pcap;

use std::net::SocketAddr;
use std::time::Duration;

use crate::impair::{Direction, flags};
use crate::raw::{Frame, TcpOption};
use crate::tcp::pattern_bytes;
use crate::topology::{CLIENT, SERVER};
use parse::Line;

/// A frame and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Nanoseconds since the start of the script, or since 1970 in a capture.
    pub at: u64,
    /// Whole, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// One segment of a script, with its frame still open to changes.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, since the start.
    pub at: Duration,
    /// Who sends it.
    pub direction: Direction,
    /// The frame.
    pub frame: Frame,
}

/// The two ends of scripted connections.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    ends: [SocketAddr; 2],
    macs: [[u8; 6]; 2],
    isn: [u32; 2],
    ip_id: [u16; 2],
}

impl Default for Script {
    /// From the client's to the server's IPv4 address of the usual world, ports 40000 and 443.
    fn default() -> Self {
        Self {
            ends: [(CLIENT.v4, 40000).into(), (SERVER.v4, 443).into()],
            macs: [CLIENT.mac, SERVER.mac],
            isn: [1_000_000, 2_000_000],
            ip_id: [1000, 5000],
        }
    }
}

impl Script {
    /// Between these ends.
    pub fn between(client: impl Into<SocketAddr>, server: impl Into<SocketAddr>) -> Self {
        Self { ends: [client.into(), server.into()], ..Self::default() }
    }

    /// With these initial sequence numbers: near 2^32 they wrap.
    pub fn isn(mut self, client: u32, server: u32) -> Self {
        self.isn = [client, server];
        self
    }

    /// With these first IPv4 identifications.
    pub fn ip_id(mut self, client: u16, server: u16) -> Self {
        self.ip_id = [client, server];
        self
    }

    /// Reads the lines.
    ///
    /// # Panics
    /// At a line that cannot be read, naming it.
    #[track_caller]
    pub fn steps(mut self, text: &str) -> Vec<Step> {
        let mut next = self.isn;
        let mut now = Duration::ZERO;
        let mut steps = Vec::new();
        for line in text.lines() {
            let parsed = match Line::parse(line) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => continue,
                Err(why) => panic!("cannot read the script line `{line}`: {why}"),
            };
            now = if parsed.relative { now + parsed.time } else { parsed.time };
            let frame = self.frame(&parsed, &mut next);
            steps.push(Step { at: now, direction: parsed.direction, frame });
        }
        steps
    }

    /// The frames of the lines.
    #[track_caller]
    pub fn frames(self, text: &str) -> Vec<Timed> {
        let timed = self.steps(text).into_iter().map(|step| Timed {
            at: u64::try_from(step.at.as_nanos()).expect("a script is shorter than 584 years"),
            frame: step.frame.build(),
        });
        timed.collect()
    }

    fn frame(&mut self, line: &Line, next: &mut [u32; 2]) -> Frame {
        let (from, to) = (line.direction as usize, line.direction.reversed() as usize);
        let seq = line.seq.map_or(next[from], |seq| self.isn[from].wrapping_add(seq));
        let length = u32::try_from(line.len).expect("a segment is short");
        let has = |flag: u8| u32::from(line.flags & flag != 0);
        let end = seq.wrapping_add(length + has(flags::SYN) + has(flags::FIN));
        if end.wrapping_sub(next[from]).cast_signed() > 0 {
            next[from] = end;
        }
        let acknowledged = line.ack.map_or(next[to], |ack| self.isn[to].wrapping_add(ack));
        let offset = u64::from(seq.wrapping_sub(self.isn[from]).wrapping_sub(1));
        let mut frame = Frame::new(self.ends[from], self.ends[to])
            .macs(self.macs[from], self.macs[to])
            .flags(line.flags)
            .seq(seq)
            .ack(if line.flags & flags::ACK == 0 { 0 } else { acknowledged })
            .window(line.window)
            .ttl(line.ttl)
            .ip_id(line.id.unwrap_or(self.ip_id[from]))
            .payload(pattern_bytes(offset, line.len));
        if line.id.is_none() {
            self.ip_id[from] = self.ip_id[from].wrapping_add(1);
        }
        for option in &line.options {
            frame = frame.option(match option {
                TcpOption::Sack(blocks) => {
                    let absolute = |relative: u32| self.isn[to].wrapping_add(relative);
                    TcpOption::Sack(
                        blocks.iter().map(|(left, right)| (absolute(*left), absolute(*right))).collect(),
                    )
                }
                other => other.clone(),
            });
        }
        for tag in &line.vlans {
            frame = frame.vlan(0x8100, *tag);
        }
        frame
    }
}
