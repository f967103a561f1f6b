//! What becomes of one connection between two points, told from what both saw of it.

use crate::connection::{Connection, Sent};
use agent_ebpf::{anomaly::Anomaly, label::Side, traffic::Close};

/// What one side's segments met between two points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Segments that passed the point before and not the one after.
    pub lost: u64,
    /// Segments that were overtaken in between.
    pub reordered: u64,
    /// Segments that were copied in between.
    pub duplicated: u64,
    /// Bytes at the end of what was sent that never came: everything before them did.
    pub missing_bytes: u32,
}

impl Way {
    /// Of what `side` sent, from the point it came by first to the next. `last` says that neither point saw more of it.
    pub fn of(side: Side, before: &Connection, after: &Connection, last: bool) -> Self {
        let (u, d) = (before.sent(side), after.sent(side));
        let more = |anomaly| d.count(anomaly).saturating_sub(u.count(anomaly));
        let duplicated = more(Anomaly::Duplicate);
        let missing_bytes = missing(u, d);
        let lost = if last && whole(before) && whole(after) {
            // Both saw all of it: what is not here was lost, acknowledgements included.
            (u.segments + duplicated).saturating_sub(d.segments)
        } else {
            // What came again and was not there before.
            more(Anomaly::LateFill)
        };
        Self { lost, reordered: more(Anomaly::OutOfOrder), duplicated, missing_bytes }
    }
}

/// Whether a point saw a connection from its SYN to the acknowledgement of its last FIN.
fn whole(c: &Connection) -> bool {
    let closed = matches!(c.close, Some(Close::FinClient | Close::FinServer));
    closed && c.from_client.isn.is_some() && c.from_server.isn.is_some()
}

fn missing(before: &Sent, after: &Sent) -> u32 {
    if before.segments == 0 || after.segments == 0 || before.isn != after.isn {
        return 0;
    }
    let missing = before.next.wrapping_sub(after.next) as i32;
    u32::try_from(missing).unwrap_or(0)
}

/// The side that an RST names as its sender although the point that is nearer to it never saw it: it was made in between.
pub fn injected(near: &Connection, far: &Connection) -> Option<Side> {
    let from = |c: &Connection| c.reset.and_then(|reset| reset.from);
    match (from(near), from(far)) {
        // Towards the client: a server's RST passes the far point first.
        (Some(Side::Server), far) if far != Some(Side::Server) => Some(Side::Server),
        (near, Some(Side::Client)) if near != Some(Side::Client) => Some(Side::Client),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Reset, tests::answered};
    use agent_ebpf::anomaly::{Cause, Origin};

    #[test]
    fn what_is_not_there_any_more_was_lost() {
        let (a, mut b) = (answered("a", 1), answered("b", 1));
        assert_eq!(Way::of(Side::Client, &a, &b, true), Way::default());
        b.from_client.segments -= 2;
        b.from_client.anomalies.insert("late_fill".to_owned(), 1);
        b.from_client.anomalies.insert("out_of_order".to_owned(), 3);
        assert_eq!(Way::of(Side::Client, &a, &b, true), Way { lost: 2, reordered: 3, ..Way::default() });
        assert_eq!(Way::of(Side::Client, &a, &b, false).lost, 1, "there may be more to come");
        // Not whole: only what came again tells.
        b.close = Some(Close::ResetServer);
        assert_eq!(Way::of(Side::Client, &a, &b, true).lost, 1);
        assert_eq!(Way::of(Side::Client, &b, &a, true), Way::default());
    }

    #[test]
    fn a_copy_does_not_make_up_for_a_loss() {
        let (a, mut b) = (answered("a", 1), answered("b", 1));
        b.from_server.anomalies.insert("duplicate".to_owned(), 1);
        assert_eq!(Way::of(Side::Server, &a, &b, true), Way { lost: 1, duplicated: 1, ..Way::default() });
    }

    #[test]
    fn bytes_that_end_before_the_point_are_missing_there() {
        let (a, mut b) = (answered("a", 1), answered("b", 1));
        b.from_client.next -= 500;
        assert_eq!(Way::of(Side::Client, &a, &b, true).missing_bytes, 500);
        assert_eq!(Way::of(Side::Client, &b, &a, true).missing_bytes, 0);
        b.from_client = Sent::default();
        assert_eq!(Way::of(Side::Client, &a, &b, true).missing_bytes, 0, "it never saw that side at all");
    }

    #[test]
    fn a_reset_that_its_sender_s_side_never_saw_was_made_in_between() {
        let reset = |from| Some(Reset { cause: Cause::Abort, origin: Origin::Endpoint, from: Some(from) });
        let (mut a, mut b) = (answered("a", 1), answered("b", 1));
        a.reset = reset(Side::Server);
        assert_eq!(injected(&a, &b), Some(Side::Server));
        b.reset = reset(Side::Client);
        assert_eq!(injected(&a, &b), Some(Side::Server), "to both sides, in the name of the other");
        b.reset = reset(Side::Server);
        assert_eq!(injected(&a, &b), None);
        a.reset = None;
        assert_eq!(injected(&a, &b), None, "it was lost on its way to the client");
        b.reset = reset(Side::Client);
        assert_eq!(injected(&a, &b), Some(Side::Client));
    }
}
