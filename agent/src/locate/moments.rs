//! When the same packets of a connection passed two points, as far as its state tells: its handshake, the end of its last
//! request, the first byte of the answer, and what each side said last.

use crate::connection::{Connection, Sent};
use agent_ebpf::{anomaly::Anomaly, label::Side};

/// Moments this close are one packet's, nanoseconds: most are known to the microsecond.
const ONE: u64 = 1_000;

/// The time of a packet at both points.
pub type Moment = (u64, u64);

/// What the client sent, and what the server sent.
pub fn shared(a: &Connection, b: &Connection) -> [Vec<Moment>; 2] {
    let (x, y) = (&a.times, &b.times);
    let mut sides = [Vec::new(), Vec::new()];
    let mut add = |side: Side, here: Option<u64>, there: Option<u64>| {
        let known: &mut Vec<Moment> = &mut sides[side as usize];
        let moment =
            here.zip(there).filter(|(at, _)| known.iter().all(|(other, _)| other.abs_diff(*at) >= ONE));
        known.extend(moment);
    };
    // Of a repeat one of the points may have seen the first, and the other the second.
    let repeated = |what: Anomaly, side: Side| a.sent(side).count(what) + b.sent(side).count(what) > 0;
    if !repeated(Anomaly::SynRetransmission, Side::Client) {
        add(Side::Client, x.syn_ns, y.syn_ns);
        if !repeated(Anomaly::SynAckRetransmission, Side::Server) {
            add(Side::Server, x.syn_ack_ns, y.syn_ack_ns);
        }
    }
    if alike(&a.from_client, &b.from_client) {
        add(Side::Client, x.established_ns, y.established_ns);
        add(Side::Client, x.request_ns, y.request_ns);
        add(Side::Client, x.client_end_ns, y.client_end_ns);
    }
    if alike(&a.from_server, &b.from_server) {
        // What was said before may meet a later request on the way, and look like its answer at one of the points.
        if a.answered == 1 && b.answered == 1 {
            add(Side::Server, x.answer_ns, y.answer_ns);
        }
        add(Side::Server, x.server_end_ns, y.server_end_ns);
    }
    let reset = |c: &Connection| c.reset.and_then(|reset| reset.from);
    if let Some(side) = reset(a).filter(|side| reset(b) == Some(*side) && alike(a.sent(*side), b.sent(*side)))
    {
        add(side, x.closed_ns, y.closed_ns);
    }
    sides
}

/// Whether both points saw the same of a side, in the same order: then what they saw last is the same packet.
fn alike(a: &Sent, b: &Sent) -> bool {
    let overtaken = |sent: &Sent| sent.count(Anomaly::OutOfOrder);
    (a.segments, a.bytes, a.fin, overtaken(a)) == (b.segments, b.bytes, b.fin, overtaken(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{
        Reset,
        tests::{answered, later},
    };
    use agent_ebpf::anomaly::{Cause, Origin};

    const MS: u64 = 1_000_000;

    /// How many moments of each side, all so much later.
    fn told(a: &Connection, b: &Connection) -> [usize; 2] {
        shared(a, b).map(|side| {
            assert!(side.iter().all(|(here, there)| there - here == 7 * MS), "{side:?}");
            side.len()
        })
    }

    #[test]
    fn a_connection_tells_several_of_each_side() {
        let a = answered("a", 0);
        let b = later(&a, 7 * MS);
        assert_eq!(told(&a, &b), [4, 3]);
        let mut silent = [a, b];
        for c in &mut silent {
            (c.times.request_ns, c.times.answer_ns, c.answered) = (None, None, 0);
            // What it said last was the acknowledgement that ended the handshake, less than a microsecond off.
            c.times.client_end_ns = c.times.established_ns.map(|at| at + 999);
        }
        assert_eq!(told(&silent[0], &silent[1]), [2, 2]);
    }

    #[test]
    fn what_may_be_another_packet_tells_nothing() {
        let a = answered("a", 0);
        let same = later(&a, 7 * MS);
        let mut b = same.clone();
        b.from_client.segments -= 1;
        assert_eq!(told(&a, &b), [1, 3]);
        let mut b = same.clone();
        b.from_server.anomalies.insert("out_of_order".to_owned(), 1);
        assert_eq!(told(&a, &b), [4, 1]);
        let mut b = same.clone();
        b.from_client.anomalies.insert("syn_retransmission".to_owned(), 1);
        assert_eq!(told(&a, &b), [3, 2]);
        let mut b = same.clone();
        b.from_server.anomalies.insert("syn_ack_retransmission".to_owned(), 1);
        assert_eq!(told(&a, &b), [4, 2]);
        let mut b = same;
        b.answered = 2;
        assert_eq!(told(&a, &b), [4, 2]);
    }

    #[test]
    fn a_reset_that_passed_both_is_one_of_its_sender() {
        let (mut a, mut b) = (answered("a", 0), answered("b", 7 * MS));
        a.reset = Some(Reset { cause: Cause::Abort, origin: Origin::Endpoint, from: Some(Side::Client) });
        assert_eq!(told(&a, &b), [4, 3]);
        b.reset = a.reset;
        assert_eq!(told(&a, &b), [5, 3]);
    }
}
