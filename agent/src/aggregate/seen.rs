//! What a point saw of a connection that has ended, cut down to what a comparison with another point needs: a third of the
//! whole.

use super::rows::Sight;
use agent_ebpf::{
    flow::{Flow, FlowKey},
    half::Half,
    scoreboard::Counts,
    seq::SeqNum,
    time::Nanos,
};

/// What a point saw of a connection of which it saw both SYNs.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Its key there.
    pub key: FlowKey,
    /// Nothing comes after it.
    pub last: bool,
    client: u8,
    close: u8,
    cause: u8,
    svc: u16,
    synack_us: u32,
    /// First packet there.
    pub opened: Nanos,
    syn_at: Nanos,
    segments: [u64; 2],
    next: [SeqNum; 2],
    late_fills: [u32; 2],
    out_of_order: [u32; 2],
    duplicates: [u32; 2],
    syn_retransmissions: [u32; 2],
}
const _: () = assert!(size_of::<Seen>() <= 128);

impl Seen {
    /// Of the state of its end, or of the `last` one.
    pub fn of(sight: &Sight, last: bool) -> Self {
        let Sight { key, flow, counts } = sight;
        Self {
            key: *key,
            last,
            client: flow.client,
            close: flow.close,
            cause: flow.cause,
            svc: flow.svc,
            synack_us: flow.synack_us,
            opened: flow.opened,
            syn_at: flow.syn_at,
            segments: flow.half.map(|half| half.segments),
            next: flow.half.map(|half| half.next),
            late_fills: counts.map(|counts| counts.late_fills),
            out_of_order: counts.map(|counts| counts.out_of_order),
            duplicates: counts.map(|counts| counts.duplicates),
            syn_retransmissions: counts.map(|counts| counts.syn_retransmissions),
        }
    }

    /// The connection again; all else of it is as if nothing had been seen, its initial numbers as well.
    pub fn sight(&self) -> Sight {
        let half = |i: usize| Half {
            segments: self.segments[i],
            next: self.next[i],
            bits: Half::SEEN | Half::SYN,
            ..Half::default()
        };
        let counts = |i: usize| Counts {
            late_fills: self.late_fills[i],
            out_of_order: self.out_of_order[i],
            duplicates: self.duplicates[i],
            syn_retransmissions: self.syn_retransmissions[i],
            ..Counts::default()
        };
        let flow = Flow {
            client: self.client,
            close: self.close,
            cause: self.cause,
            svc: self.svc,
            synack_us: self.synack_us,
            opened: self.opened,
            syn_at: self.syn_at,
            half: [half(0), half(1)],
            ..Flow::default()
        };
        Sight { key: self.key, flow, counts: [counts(0), counts(1)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::Names,
        connection::{Clock, Connection},
        locate::way::{Way, injected},
    };
    use agent_ebpf::{flow::FlowKey4, label::Side};
    use proptest::{array::uniform2, prelude::*};

    /// Anything that a table may hold of a connection whose SYNs were seen.
    fn any_sight() -> impl Strategy<Value = Sight> {
        let (bytes, counts) = (any::<[[u8; 32]; 8]>(), uniform2(uniform2(0..3u32)));
        (bytes, counts, 0..9u8, 0..9u8).prop_map(|(bytes, counts, close, cause)| {
            let mut flow: Flow = bytemuck::cast(bytes);
            (flow.close, flow.cause) = (close, cause);
            // No clock runs for centuries.
            for time in [&mut flow.opened, &mut flow.syn_at] {
                time.0 >>= 8;
            }
            for half in &mut flow.half {
                half.bits |= Half::SEEN | Half::SYN;
                half.isn = SeqNum(7);
                half.last_seen.0 >>= 8;
                half.segments %= 50;
            }
            let counts = counts.map(|[a, b]| Counts {
                late_fills: a,
                out_of_order: b,
                duplicates: a ^ b,
                syn_retransmissions: u32::from(a > b),
                retransmissions: 3,
                ..Counts::default()
            });
            Sight { key: FlowKey::V4(FlowKey4 { scope: 3 << 24, ..FlowKey4::default() }), flow, counts }
        })
    }

    proptest! {
        #[test]
        fn nothing_that_a_comparison_asks_for_is_cut_off(a in any_sight(), b in any_sight()) {
            let told = |a: &Sight, b: &Sight| {
                let of = |sight: &Sight| Connection::of(sight, &Names::default(), Clock::of_capture());
                let (near, far) = (of(a), of(b));
                let ways = [true, false].map(|whole| {
                    [Way::of(Side::Client, &near, &far, whole), Way::of(Side::Server, &far, &near, whole)]
                });
                let syns = [&near, &far].map(|c| {
                    let again = c.from_client.anomalies.contains_key("syn_retransmission");
                    (c.times.syn_ns, c.times.syn_ack_ns, again)
                });
                (ways, injected(&near, &far), syns, [a, b].map(|s| (s.key, s.flow.opened, s.flow.svc)))
            };
            let cut = |sight| Seen::of(sight, true).sight();
            prop_assert_eq!(told(&cut(&a), &cut(&b)), told(&a, &b));
        }
    }
}
