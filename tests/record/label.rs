//! What each captured packet is, by what the hosts sent and the network did. None of fivetuple's rules is used.
//!
//! The capture on a host has all that the host sent, in order: there a segment whose first number was sent before is a
//! retransmission, and nothing else is. The same packet is then found in the other captures by its headers. What
//! arrives twice although it was sent once is a copy of the network's; a first transmission that a later one has
//! overtaken is out of order. The recorder compares the number of retransmissions with the kernel's own.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::segment::{FIN, RST, SYN, Segment, before};

/// A capture and the place it was taken at: `c` on the client, `m` between, `s` on the server.
pub struct Capture {
    /// The place.
    pub place: char,
    /// All TCP packets of it.
    pub segments: Vec<Segment>,
}

/// What one packet is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// In the benchmark's words.
    pub analysis: Vec<&'static str>,
    /// Sent again, but nothing at this place shows it.
    pub hidden: bool,
    /// Sent more than once with the very same headers: which of them this is, the order alone tells.
    pub ambiguous: bool,
    /// Neither host sent it.
    pub injected: bool,
}

/// A segment as it left its host.
struct Emission {
    half: (SocketAddr, SocketAddr),
    /// Counts the connections of this half.
    connection: u32,
    seq: u32,
    end: u32,
    again: bool,
    /// Everything in it had arrived at the other host by what was sent before.
    needless: bool,
}

/// What a half has sent so far.
#[derive(Default)]
struct Sent {
    connection: u32,
    isn: Option<u32>,
    next: Option<u32>,
}

/// All that the hosts sent.
pub struct Truth {
    emissions: Vec<Emission>,
    by_identity: HashMap<Vec<u8>, Vec<usize>>,
}

impl Truth {
    /// Reads it from the hosts' own captures.
    pub fn of(captures: &[Capture]) -> Self {
        let clients: HashSet<IpAddr> = captures
            .iter()
            .filter(|capture| capture.place == 'c')
            .flat_map(|capture| &capture.segments)
            .filter(|segment| segment.opens())
            .map(|segment| segment.from.ip())
            .collect();
        let mut truth = Self { emissions: Vec::new(), by_identity: HashMap::new() };
        for capture in captures.iter().filter(|capture| capture.place != 'm') {
            let own = |segment: &&Segment| clients.contains(&segment.from.ip()) == (capture.place == 'c');
            truth.emit(capture.segments.iter().filter(own));
        }
        for capture in captures.iter().filter(|capture| capture.place != 'm') {
            let other = |segment: &&Segment| clients.contains(&segment.from.ip()) != (capture.place == 'c');
            truth.note_needless(capture.segments.iter().filter(other));
        }
        truth
    }

    /// How many segments a host sent again.
    pub fn sent_again(&self, by: impl Fn(IpAddr) -> bool) -> usize {
        self.emissions.iter().filter(|emission| emission.again && by(emission.half.0.ip())).count()
    }

    fn emit<'a>(&mut self, sent_by_host: impl Iterator<Item = &'a Segment>) {
        let mut halves: HashMap<(SocketAddr, SocketAddr), Sent> = HashMap::new();
        for segment in sent_by_host {
            let sent = halves.entry((segment.from, segment.to)).or_default();
            if segment.has(SYN) && sent.isn != Some(segment.seq) {
                *sent = Sent { connection: sent.connection + 1, isn: Some(segment.seq), next: None };
            }
            let again = segment.space() > 0 && sent.next.is_some_and(|next| before(segment.seq, next));
            if segment.space() > 0 && sent.next.is_none_or(|next| before(next, segment.end())) {
                sent.next = Some(segment.end());
            }
            self.by_identity.entry(segment.identity.clone()).or_default().push(self.emissions.len());
            self.emissions.push(Emission {
                half: (segment.from, segment.to),
                connection: sent.connection,
                seq: segment.seq,
                end: segment.end(),
                again,
                needless: false,
            });
        }
    }

    /// Marks what was sent again although copies sent earlier did arrive, all bytes of it.
    fn note_needless<'a>(&mut self, arrived_at_host: impl Iterator<Item = &'a Segment>) {
        let mut seen = HashMap::new();
        let arrived: HashSet<usize> =
            arrived_at_host.filter_map(|segment| Some(self.find(segment, &mut seen)?.0)).collect();
        let mut delivered: HashMap<_, Vec<(u32, u32)>> = HashMap::new();
        for at in 0..self.emissions.len() {
            let emission = &self.emissions[at];
            let ranges = delivered.entry((emission.half, emission.connection)).or_default();
            let needless = emission.again && covered(emission.seq, emission.end, ranges);
            if arrived.contains(&at) && emission.seq != emission.end {
                ranges.push((emission.seq, emission.end));
            }
            self.emissions[at].needless |= needless;
        }
    }

    /// Which emission it is, whether it is a further copy of it, and whether others look the same.
    fn find(&self, segment: &Segment, seen: &mut HashMap<Vec<u8>, usize>) -> Option<(usize, bool, bool)> {
        let same = self.by_identity.get(&segment.identity)?;
        let nth = seen.entry(segment.identity.clone()).or_default();
        let found = same.get(*nth).or(same.last())?;
        let copy = *nth >= same.len();
        *nth += 1;
        Some((*found, copy, same.len() > 1))
    }

    /// Labels a capture.
    pub fn label(&self, capture: &Capture) -> Vec<Label> {
        let mut seen = HashMap::new();
        let mut highest: HashMap<_, u32> = HashMap::new();
        let mut initial: HashMap<[SocketAddr; 2], u32> = HashMap::new();
        capture
            .segments
            .iter()
            .map(|segment| {
                let mut label = self.label_one(segment, self.find(segment, &mut seen), &mut highest);
                if segment.opens() {
                    let before = initial.insert(ends(segment), segment.seq);
                    if before.is_some_and(|isn| isn != segment.seq) {
                        label.analysis.push("reused_ports");
                    }
                } else {
                    initial.entry(ends(segment)).or_insert(segment.ack.wrapping_sub(1));
                }
                label
            })
            .collect()
    }

    fn label_one(
        &self,
        segment: &Segment,
        found: Option<(usize, bool, bool)>,
        highest: &mut HashMap<((SocketAddr, SocketAddr), u32), u32>,
    ) -> Label {
        let mut label = Label::default();
        match found {
            None => label.injected = true,
            Some((at, copy, ambiguous)) => {
                let emission = &self.emissions[at];
                label.ambiguous = ambiguous;
                let seen = highest.entry((emission.half, emission.connection)).or_insert(emission.seq);
                let advances = !before(emission.seq, *seen);
                // Also an ACK without payload tells how far its sender had come; an RST may say anything.
                if !segment.has(RST) && before(*seen, emission.end) {
                    *seen = emission.end;
                }
                if emission.seq != emission.end {
                    if copy {
                        label.analysis.push("net_duplicate");
                    } else if emission.again {
                        label.analysis.push("retransmission");
                        label.hidden = advances;
                        if segment.has(SYN) {
                            label.analysis.push("syn_retransmission");
                        }
                        if emission.needless {
                            label.analysis.push("spurious_retransmission");
                        }
                    } else if !advances {
                        label.analysis.push("out_of_order");
                    }
                }
            }
        }
        if segment.has(RST) {
            label.analysis.push("rst");
        }
        if segment.window == 0 && segment.flags & (SYN | RST | FIN) == 0 {
            label.analysis.push("zero_window");
        }
        label
    }
}

/// The end points of a packet, whoever sent it.
pub fn ends(segment: &Segment) -> [SocketAddr; 2] {
    let mut ends = [segment.from, segment.to];
    ends.sort();
    ends
}

/// Is every number from `seq` up to `end` in one of these ranges?
fn covered(mut seq: u32, end: u32, ranges: &[(u32, u32)]) -> bool {
    while before(seq, end) {
        let next = ranges.iter().find(|(from, to)| !before(seq, *from) && before(seq, *to));
        match next {
            Some((_, to)) => seq = *to,
            None => return false,
        }
    }
    true
}
