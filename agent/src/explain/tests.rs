//! Whole answers, on populations in which it is known what the matter is.

use super::*;
use crate::{
    api::Reuse,
    connection::{Request, Sent, tests::answered},
};
use agent_ebpf::{
    anomaly::{Anomaly, Outcome},
    label::Label as _,
    traffic::{Close, Served},
};
use fastrand::Rng;
use report::{Candidate, Finding, Standing, Verdict};

const BEGAN: u64 = 1_700_000_000_000_000_000;

/// The `n`th connection of a population: addresses, ports and times as they come.
fn connection(n: u16) -> Connection {
    let mut c = answered("inside", BEGAN + u64::from(n) * 30_000_000_000);
    c.client.address = [10, 1, (n % 5) as u8, (n % 200) as u8].into();
    c.client.port = 40_000 + n;
    c.from_client.isn = Some(u32::from(n));
    c.from_client.ttl = Some(if n.is_multiple_of(3) { 63 } else { 64 });
    c
}

fn asks(mut c: Connection, bytes: u32, reordered: bool) -> Connection {
    let segments = bytes.div_ceil(1_460) as u16;
    c.request = Some(Request { bytes, segments, pending: false });
    if reordered {
        c.from_client.anomalies.insert(Anomaly::OutOfOrder.name().to_owned(), 1);
    }
    c
}

fn fails(mut c: Connection, result: Served) -> Connection {
    (c.result, c.close) = (Some(result), Some(Close::FinServer));
    c.from_server = Sent { segments: 3, ..Sent::default() };
    c
}

/// Requests of 600 to 10,180 bytes; most of several segments are reordered, and all those stay without an answer.
fn campus_card(n: u16, reordered: impl Fn(u16) -> bool) -> Vec<Connection> {
    let one = |n: u16| {
        let bytes = [600, 800, 1_200, 4_000, 7_300, 10_180][usize::from(n % 6)];
        let reordered = bytes > 1_460 && reordered(n);
        let c = asks(connection(n), bytes, reordered);
        if reordered { fails(c, Served::Unanswered) } else { c }
    };
    (0..n).map(one).collect()
}

fn explain(connections: &[Connection]) -> Report {
    report(connections, ExplainFilter::default(), Vec::new())
}

/// The only section.
#[track_caller]
fn only(report: &Report) -> &Section {
    let [section] = &report.sections[..] else { panic!("not one section: {report:?}") };
    section
}

fn first(section: &Section) -> &Candidate {
    section.candidates.iter().find(|c| c.standing == Standing::First).unwrap()
}

fn finding(section: &Section, feature: &str) -> Finding {
    section.features.iter().find(|looked| looked.feature == feature).unwrap().finding
}

#[test]
fn campus_card_is_several_segments_reordered() {
    let report = explain(&campus_card(240, |n| n % 4 != 0));
    let section = only(&report);
    assert_eq!(section.verdict, Verdict::SetApart);
    let first = first(section);
    assert_eq!(first.what, "request in several segments, reordered");
    assert_eq!((first.with.failed, first.with.all), (100, 100));
    assert_eq!((first.without.failed, first.without.all), (0, 140));
    assert!(first.strength > 0.999 && first.covers == 1.0 && first.ratio.is_none());
    assert!(first.difference.low > 0.95 && first.difference.high == 1.0, "{:?}", first.difference);
    for candidate in &section.candidates[1..] {
        assert!(matches!(candidate.standing, Standing::Explained { by: 0, .. }), "{candidate:?}");
    }
    assert_eq!(finding(section, "client's network"), Finding::NoDifference);
    assert_eq!(finding(section, "reordering"), Finding::Differs);
    assert_eq!(finding(section, "VLAN"), Finding::Same);
    assert_eq!(
        report.answer,
        "At inside: what sets failed connections apart is: request in several segments, reordered. \
         Of those 100 of 100 (100 %) failed, of the others 0 of 140 (0 %)."
    );
}

#[test]
fn the_answer_is_of_the_point_where_it_shows() {
    let inside = campus_card(240, |n| n % 4 != 0);
    let outside = inside.iter().cloned().map(|mut c| {
        c.from_client.anomalies.clear();
        "outside".clone_into(&mut c.point);
        c
    });
    let report = explain(&outside.chain(inside.clone()).collect::<Vec<_>>());
    assert_eq!(report.sections.len(), 2);
    assert!(
        report.answer.starts_with("At inside: ") && report.answer.contains("reordered"),
        "{}",
        report.answer
    );
    assert_eq!(report.sections[0].answer, report.answer, "the point that says most comes first");
    assert_eq!(first(&report.sections[1]).what, "request in several segments", "all that can be seen there");
    let text = text::text(&report);
    assert_eq!((text.matches("At inside: ").count(), text.matches("At outside: ").count()), (1, 1), "{text}");
}

#[test]
fn bank_g_is_a_five_tuple_that_comes_back_too_soon() {
    let mut rng = Rng::with_seed(1);
    let all: Vec<_> = (0..300)
        .map(|n| {
            let mut c = connection(n);
            if n % 3 != 0 {
                return c;
            }
            let gap = f64::from(rng.u32(10..60_000)) / 1e3;
            let outcome = Some(Outcome::Accepted.value().to_owned());
            c.reuse = Some(Reuse { gap_seconds: Some(gap), outcome, ..Reuse::default() });
            if gap < 10.0 { fails(c, Served::Reset) } else { c }
        })
        .collect();
    let report = explain(&all);
    let section = only(&report);
    let first = first(section);
    assert_eq!(section.verdict, Verdict::SetApart, "{}", report.answer);
    let within = first.what.strip_prefix("five-tuple back within ").expect(&first.what);
    let within: f64 = within.strip_suffix('s').unwrap().parse().unwrap();
    assert!((8.0..12.0).contains(&within), "{within}");
    assert_eq!(first.without.failed + first.with.failed, section.population.reset);
    let reused = section.candidates.iter().find(|c| c.what == "five-tuple used shortly before").unwrap();
    assert_eq!(reused.standing, Standing::Explained { by: 0, apart: reused.with.all - first.with.all });
}

#[test]
fn equal_groups_are_told_nothing_apart() {
    let mut rng = Rng::with_seed(7);
    let all = campus_card(200, |n| n % 4 != 0).into_iter().map(|mut c| {
        c.result = Some(if rng.u8(0..4) == 0 { Served::Unanswered } else { Served::Answered });
        c
    });
    let report = explain(&all.collect::<Vec<_>>());
    let section = only(&report);
    assert_eq!((section.verdict, section.candidates.len()), (Verdict::Nothing, 0), "{}", report.answer);
    assert!(report.answer.contains("nothing that was looked at sets"), "{}", report.answer);
    assert!(section.tests > 10);
}

#[test]
fn few_connections_are_not_enough_data() {
    let all = campus_card(12, |n| n == 3 || n == 4);
    let report = explain(&all);
    assert_eq!(only(&report).verdict, Verdict::NotEnoughData);
    assert!(
        report.answer.starts_with("At inside: not enough data: 2 of 12 connections failed"),
        "{}",
        report.answer
    );
    let good: Vec<_> = (0..5).map(connection).collect();
    assert_eq!(explain(&good).answer, "At inside: none of 5 connections failed.");
    let bad: Vec<_> = (0..5).map(|n| fails(connection(n), Served::Refused)).collect();
    assert!(explain(&bad).answer.starts_with("At inside: all of 5 connections failed"));
    assert_eq!(explain(&[]).answer, "there is no connection to compare");
}

#[test]
fn what_goes_together_is_not_told_apart() {
    // All that has several segments was reordered.
    let report = explain(&campus_card(120, |_| true));
    let section = only(&report);
    assert_eq!(section.verdict, Verdict::Together);
    for part in [
        "\"request in several segments\" goes together in these data with \"client's segments reordered\" (no \
         connection tells them apart), with \"request of 4000 B or more\" (no",
        ": which of them matters cannot be told. Of those 60 of 60 (100 %)",
    ] {
        assert!(report.answer.contains(part), "{}", report.answer);
    }
    // All but two, of which one was answered: too few to tell.
    let mut all = campus_card(120, |n| n != 3 && n != 9);
    all[3] = fails(all[3].clone(), Served::Unanswered);
    let report = explain(&all);
    assert_eq!(only(&report).verdict, Verdict::Together);
    assert!(report.answer.contains("tell them apart)"), "{}", report.answer);
    let apart = only(&report).candidates.iter().find_map(|c| match c.standing {
        Standing::Together { apart, .. } => Some(apart),
        _ => None,
    });
    assert_eq!(apart, Some(2));
}

#[test]
fn two_causes_are_both_told() {
    let mut all = campus_card(300, |n| n % 4 != 0);
    for (n, c) in all.iter_mut().enumerate().filter(|(n, _)| n % 7 == 0) {
        c.client.address = [192, 0, 2, n as u8].into();
        *c = fails(c.clone(), Served::Reset);
    }
    let report = explain(&all);
    let section = only(&report);
    assert_eq!(first(section).what, "request in several segments, reordered");
    assert!(report.answer.ends_with(" Besides: client in 192.0.2.0/24."), "{}", report.answer);
}

#[test]
fn a_path_beside_another_can_be_the_cause() {
    let all: Vec<_> = (0..80)
        .map(|n| {
            let mut c = connection(n);
            c.point = if n % 8 < 3 { "east" } else { "west" }.to_owned();
            c.from_server.isn = Some(u32::from(n));
            if n % 8 < 3 && n % 5 != 0 { fails(c, Served::TimedOut) } else { c }
        })
        .collect();
    let report = explain(&all);
    assert_eq!(first(only(&report)).what, "seen at east");
    assert!(report.answer.starts_with("At east and west: "), "{}", report.answer);
}

/// Features that have to do with each other, and failures that have to do with nothing.
#[test]
fn where_nothing_is_the_matter_a_claim_is_made_as_rarely_as_the_level_says() {
    let mut rng = Rng::with_seed(42);
    let mut claims = 0;
    for _ in 0..200 {
        let share = rng.f64() * 0.5 + 0.05;
        let all: Vec<_> = (0..rng.u16(40..300))
            .map(|n| {
                let bytes = rng.u32(200..12_000);
                let reordered = bytes > 1_460 && rng.f64() < 0.6;
                let mut c = asks(connection(n), bytes, reordered);
                c.times.opened_ns += rng.u64(0..8) * 3_600_000_000_000;
                c.client.address = [10, 1, rng.u8(0..12), 1].into();
                c.server.address = [10, 9, 9, rng.u8(1..4)].into();
                c.from_client.mss = Some(if rng.bool() { 1_460 } else { 1_380 });
                c.from_client.ts_val = rng.bool().then_some(7);
                c.inferred = rng.u8(0..20) == 0;
                if rng.u8(0..3) == 0 {
                    c.reuse = Some(Reuse { gap_seconds: Some(rng.f64() * 60.0), ..Reuse::default() });
                }
                if rng.f64() < share { fails(c, Served::Unanswered) } else { c }
            })
            .collect();
        let report = explain(&all);
        claims += u32::from(report.sections.iter().any(|section| !section.candidates.is_empty()));
    }
    // One in twenty would be 10; exact tests and a correction for tests that depend on each other leave fewer.
    assert!(claims <= 10, "{claims} claims in 200 populations");
}

/// Reordering makes connections fail, now and then; reordered ones come more often by one network than by the other.
#[test]
fn what_only_goes_along_with_a_cause_is_as_rarely_told_as_one() {
    let mut rng = Rng::with_seed(11);
    let (mut told, mut wrong) = (0, 0);
    for _ in 0..200 {
        let all: Vec<_> = (0..300)
            .map(|n| {
                let reordered = rng.bool();
                let mut c = asks(connection(n), 8_000, reordered);
                let east = if reordered { rng.f64() < 0.85 } else { rng.f64() < 0.15 };
                c.client.address = [10, if east { 1 } else { 2 }, 0, 1].into();
                if rng.f64() < if reordered { 0.7 } else { 0.1 } { fails(c, Served::Unanswered) } else { c }
            })
            .collect();
        let report = explain(&all);
        let section = only(&report);
        let is_told = |c: &Candidate| {
            c.standing == Standing::Further
                || c.standing == Standing::First && section.verdict == Verdict::SetApart
        };
        let network = |c: &&Candidate| c.what.starts_with("client in");
        told += u32::from(is_told(first(section)) && first(section).what.contains("reordered"));
        wrong += u32::from(section.candidates.iter().filter(network).any(is_told));
    }
    assert!(told >= 150, "the cause is told in {told} of 200 populations");
    assert!(wrong <= 10, "what goes along with it is told in {wrong} of 200 populations");
}

#[test]
fn the_answer_survives_its_way_through_json_and_is_told_in_numbers() {
    let report = explain(&campus_card(240, |n| n % 4 != 0));
    let json = serde_json::to_string(&report).unwrap();
    let text = text::text(&report);
    assert_eq!(text::text(&serde_json::from_str(&json).unwrap()), text);
    for part in [r#""verdict":"set_apart""#, r#""standing":{"is":"first"}"#, r#""finding":"no_difference""#] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
    for part in
        ["100/100 100 %", "+100 (+95 to +100)", "explained by 1", "No difference beyond chance: ", "140 good"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 250), "{text}");
}
