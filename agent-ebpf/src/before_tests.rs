//! Rules of `before` that a connection's end hangs on.

use super::*;
use crate::{seq::SeqNum, wire::Flags};

fn open_flow() -> Flow {
    let mut flow = Flow { bits: Flow::USED | Flow::CONFIRMED, phase: 3, ..Flow::default() };
    for half in &mut flow.half {
        half.bits = Half::SEEN | Half::SYN;
    }
    flow
}

fn segment(flags: u8, seq: u32, ack: u32) -> Segment {
    Segment { flags: Flags(flags), seq: SeqNum(seq), ack: SeqNum(ack), ..crate::test_segment() }
}

#[test]
fn an_accepted_contender_replaces_the_open_connection() {
    let flow = Flow { contender: SeqNum(700), ..open_flow() };
    let flow = Flow { bits: flow.bits | Flow::CONTENDED, ..flow };
    let accepts = segment(Flags::SYN | Flags::ACK, 1, 701);
    assert_eq!(before(&flow, &accepts, 1, false), Before::End(Close::Replaced));
    let half_closed = Flow { first_fin: 1, ..flow };
    assert_eq!(before(&half_closed, &accepts, 1, false), Before::End(Close::HalfFinClient));
    let reported = Flow { bits: flow.bits | Flow::ENDED, ..flow };
    assert_eq!(before(&reported, &accepts, 1, false), Before::Go);
    assert_eq!(before(&flow, &accepts, 1, true), Before::Raced);
}

#[test]
fn a_syn_replaces_only_what_is_closed_or_never_answered() {
    let syn = segment(Flags::SYN, 900, 0);
    assert!(!matches!(before(&open_flow(), &syn, 0, true), Before::End(_)));
    let unanswered = Flow { phase: 1, ..open_flow() };
    assert_eq!(before(&unanswered, &syn, 0, false), Before::End(Close::HandshakeSilence));
    let reset = Flow { phase: 6, bits: Flow::USED | Flow::ENDED, ..open_flow() };
    assert_eq!(before(&reset, &syn, 0, false), Before::Go);
}
