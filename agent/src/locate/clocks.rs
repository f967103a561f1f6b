//! How the clocks of two points stand, and which point is nearer to the clients.
//!
//! A SYN passes the nearer point first, its SYN-ACK the farther one. With one clock ahead of the other by `o` the SYN seems
//! to take `o + d1` and the SYN-ACK `d2 - o`: the sum tells the order whatever the clocks say, and each bounds `o`, as
//! delays are never negative (NTP's reasoning, RFC 5905, 8). The narrowest bounds of all connections hold.

use crate::connection::Connection;

/// What is known of two points' clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// What the second point's clock is ahead by, nanoseconds.
    pub ahead_ns: i64,
    /// How far off that may be, either way.
    pub error_ns: u64,
    /// Half the median time from the first point over the second to it again, nanoseconds; below 0 where the second one
    /// is nearer to the clients.
    pub apart_ns: i64,
    /// Connections that told.
    pub told: usize,
}

/// Compares two points by connections that both saw.
pub fn compare<'a>(both: impl Iterator<Item = (&'a Connection, &'a Connection)>) -> Option<Clocks> {
    let (mut there, mut back, mut round) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b) in both {
        let Some(((syn_a, syn_b), (ack_a, ack_b))) = pair(a, b) else { continue };
        let (syn, ack) = (minus(syn_b, syn_a), minus(ack_b, ack_a));
        there.push(syn);
        back.push(ack);
        round.push(syn.saturating_sub(ack) / 2);
    }
    round.sort_unstable();
    let apart_ns = *round.get(round.len() / 2)?;
    // The nearer point's view: the SYN cannot have taken less than nothing, nor the SYN-ACK.
    let (forth, home) = if apart_ns >= 0 { (&there, &back) } else { (&back, &there) };
    let (most, least) = (*forth.iter().min()?, *home.iter().max()?);
    // Sequence of events on a busy machine may leave no room at all.
    let (least, most) = (least.min(most), least.max(most));
    // Clocks that may well agree are not set apart by half of a delay.
    let ahead_ns = if (least..=most).contains(&0) { 0 } else { least + (most - least) / 2 };
    let error_ns = most.abs_diff(ahead_ns).max(least.abs_diff(ahead_ns));
    Some(Clocks { ahead_ns, error_ns, apart_ns, told: there.len() })
}

/// The times of SYN and SYN-ACK at both. Of the same ones: a repeat of either, seen at one point only, says nothing.
fn pair(a: &Connection, b: &Connection) -> Option<((u64, u64), (u64, u64))> {
    let repeated = |c: &Connection| c.from_client.anomalies.contains_key("syn_retransmission");
    if repeated(a) || repeated(b) {
        return None;
    }
    Some(((a.times.syn_ns?, b.times.syn_ns?), (a.times.syn_ack_ns?, b.times.syn_ack_ns?)))
}

/// The difference of two times.
pub fn minus(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;

    const MS: i64 = 1_000_000;

    /// One connection at two points: the SYN takes `forth`, the SYN-ACK `back`, the second clock is ahead.
    fn both(at: u64, forth: i64, back: i64, ahead: i64) -> (Connection, Connection) {
        let (a, mut b) = (answered("a", at), answered("b", at));
        b.times.syn_ns = a.times.syn_ns.map(|t| t.wrapping_add_signed(forth + ahead));
        b.times.syn_ack_ns = a.times.syn_ack_ns.map(|t| t.wrapping_add_signed(ahead - back));
        (a, b)
    }

    fn compared(pairs: &[(Connection, Connection)]) -> Clocks {
        compare(pairs.iter().map(|(a, b)| (a, b))).unwrap()
    }

    #[test]
    fn a_day_between_the_clocks_is_found_and_the_order_too() {
        let day = 86_400_000 * MS;
        let pairs: Vec<_> = (0..9).map(|n| both(1 << 60, MS + n * MS, 3 * MS - n * MS / 4, day)).collect();
        let clocks = compared(&pairs);
        assert!(clocks.apart_ns > 0 && clocks.ahead_ns.abs_diff(day) <= clocks.error_ns, "{clocks:?}");
        assert!(clocks.error_ns <= 2 * MS as u64, "{clocks:?}");
        let turned: Vec<_> = pairs.into_iter().map(|(a, b)| (b, a)).collect();
        let clocks = compared(&turned);
        assert!(clocks.apart_ns < 0 && clocks.ahead_ns.abs_diff(-day) <= clocks.error_ns, "{clocks:?}");
    }

    #[test]
    fn clocks_that_may_agree_do() {
        let clocks = compared(&[both(1 << 60, 10 * MS, MS, 0), both(1 << 60, 8 * MS, MS, 0)]);
        assert_eq!((clocks.ahead_ns, clocks.error_ns), (0, 8 * MS as u64));
        assert_eq!(clocks.apart_ns, 11 * MS / 2);
    }

    #[test]
    fn a_repeated_syn_or_no_syn_ack_says_nothing() {
        let (a, mut b) = both(1 << 60, MS, MS, 0);
        b.times.syn_ack_ns = None;
        assert_eq!(compare([(&a, &b)].into_iter()), None);
        let (a, mut b) = both(1 << 60, MS, MS, 0);
        b.from_client.anomalies.insert("syn_retransmission".to_owned(), 1);
        assert_eq!(compare([(&a, &b)].into_iter()), None);
    }
}
