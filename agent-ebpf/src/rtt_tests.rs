//! Round trips: what is timed, and what is not (RFC 6298, 2 and 3).

use crate::{
    half::Path,
    talk::{C, MS, S, Talk, fin, segment, syn, syn_ack},
};

fn client(talk: &Talk) -> (u32, u32) {
    let Path { rtt_min_us, rtt_us, .. } = talk.flow.path[C];
    (rtt_min_us, rtt_us)
}

#[test]
fn the_handshake_gives_each_way_its_first_sample() {
    let mut talk = Talk::new();
    talk.hear(0, C, syn(0));
    talk.hear(7 * MS, S, syn_ack(0, 1));
    let last = talk.hear(2 * MS, C, segment(1, 1, 0));
    assert_eq!(client(&talk), (7_000, 7_000));
    assert_eq!((talk.flow.path[S].rtt_min_us, talk.flow.path[S].rtt_us), (2_000, 2_000));
    assert_eq!((last.handshake_us, talk.flow.synack_us), (Some(9_000), 7_000));
}

#[test]
fn the_smallest_stays_and_the_smoothed_one_follows() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(9 * MS, S, segment(1, 101, 0));
    assert_eq!(client(&talk), (1_000, 2_000));
    talk.hear(MS, C, segment(101, 1, 100));
    talk.hear(400, S, segment(1, 201, 0));
    assert_eq!(client(&talk), (400, 1_800));
}

#[test]
fn one_segment_is_timed_at_once_and_only_its_whole_acknowledgement_counts() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(2 * MS, C, segment(101, 1, 100));
    talk.hear(MS, S, segment(1, 51, 0));
    assert_eq!(client(&talk), (1_000, 1_000));
    // For both: 4 ms since the first, 2 ms since the second.
    talk.hear(MS, S, segment(1, 201, 0));
    assert_eq!(client(&talk), (1_000, 1_000 - 125 + 500));
    // A FIN is timed like data.
    talk.hear(MS, C, fin(201, 1));
    talk.hear(500, S, segment(1, 202, 0));
    assert_eq!(client(&talk).0, 500);
}

#[test]
fn karn_takes_no_sample_of_what_was_sent_again() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(300 * MS, C, segment(1, 1, 100));
    talk.hear(100, S, segment(1, 101, 0));
    assert_eq!(client(&talk), (1_000, 1_000));
    // The next one is timed again.
    talk.hear(MS, C, segment(101, 1, 100));
    talk.hear(9 * MS, S, segment(1, 201, 0));
    assert_eq!(client(&talk), (1_000, 2_000));
}

#[test]
fn karn_spares_what_was_sent_before_the_repeat() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(0, C, segment(101, 1, 100));
    // The second is sent again; the timed one is the first.
    talk.hear(3 * MS, C, segment(101, 1, 100));
    talk.hear(6 * MS, S, segment(1, 101, 0));
    assert_eq!(client(&talk), (1_000, 2_000));
}

#[test]
fn a_fill_of_a_hole_is_no_sample_either() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(101, 1, 100));
    talk.hear(300 * MS, C, segment(1, 1, 100));
    talk.hear(100, S, segment(1, 201, 0));
    assert_eq!(client(&talk), (1_000, 1_000));
}
