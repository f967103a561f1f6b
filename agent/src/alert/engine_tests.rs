//! The engine under a clock of our own: incidents, and all that may come in between.

use super::*;
use crate::{
    aggregate::{
        inside::{Figures, Pair},
        metrics::tests::snapshot,
    },
    alert::{
        defaults::tests::rule,
        message::Status,
        rule::{By, Severity},
    },
};
use agent_ebpf::{
    anomaly::Anomaly,
    label::Side,
    traffic::{Served, Traffic},
};
use std::time::SystemTime;

/// The engine, its clocks, and the figures it is shown.
struct World {
    engine: Engine,
    now: Moment,
    snapshot: Snapshot,
    told: Vec<(u64, Alert)>,
}

/// Number of the point `outside` and of the service `card`.
const OUTSIDE: usize = 0;
const CARD: usize = 1;

fn svcs() -> Vec<String> {
    vec!["card".to_owned()]
}

fn start() -> Moment {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Moment { mono: Duration::from_secs(1_000), wall }
}

impl World {
    fn new(rules: Vec<Rule>) -> Self {
        let engine = Engine::new(rules, BTreeMap::new(), svcs(), start());
        Self { engine, now: start(), snapshot: snapshot(), told: Vec::new() }
    }

    fn add(&mut self, point: usize, counter: usize, count: u64) {
        let at = self.snapshot.index(point, CARD);
        self.snapshot.totals[at].0[counter] += count;
    }

    fn ended(&mut self, point: usize, served: Served, count: u64) {
        self.add(point, Traffic::Served.place(Side::Client, served as usize), count);
    }

    fn opened(&mut self, point: usize, count: u64) {
        self.add(point, Traffic::Opened.place(Side::Client, 0), count);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
    }

    /// A second passes, and the engine looks.
    fn second(&mut self) {
        self.pass(Duration::from_secs(1));
        self.look();
    }

    fn look(&mut self) {
        let seen = |_: &Rule, _| vec![Evidence { text: "shown".to_owned(), ..Evidence::default() }];
        let at = (self.now.mono - start().mono).as_secs();
        let told = self.engine.step(self.now, &self.snapshot, &mut { seen });
        self.told.extend(told.into_iter().map(|alert| (at, alert)));
    }

    fn reload(&mut self, rules: Vec<Rule>) {
        let at = (self.now.mono - start().mono).as_secs();
        let over = self.engine.reload(rules, BTreeMap::new(), svcs());
        self.told.extend(over.into_iter().map(|alert| (at, alert)));
    }

    /// Seconds at which something was told, and what.
    fn times(&self) -> Vec<(u64, Status)> {
        self.told.iter().map(|(at, alert)| (*at, alert.status)).collect()
    }

    /// Ten connections a second end well, or not.
    fn traffic(&mut self, good: bool) {
        let served = if good { Served::Answered } else { Served::Unanswered };
        self.ended(OUTSIDE, served, 10);
        self.second();
    }
}

#[test]
fn a_fault_that_flaps_is_one_page_and_is_over_once() {
    for period in [1, 3, 7, 20, 45] {
        let mut world = World::new(vec![rule("FivetupleSuccessRate")]);
        (0..300).for_each(|_| world.traffic(true));
        assert!(world.told.is_empty(), "all was well");
        for change in 0..200 {
            (0..period).for_each(|_| world.traffic(change % 2 == 1));
        }
        (0..1_000).for_each(|_| world.traffic(true));
        let statuses: Vec<_> = world.told.iter().map(|(_, alert)| alert.status).collect();
        assert_eq!(statuses, [Status::Firing, Status::Resolved], "changes each {period} s");
        let [(fired, page), (over, resolved)] = &world.told[..] else { unreachable!() };
        assert!(*fired <= 300 + 8 * period, "{fired}");
        let end = 300 + 200 * period;
        assert!((end + 120..end + 190).contains(over), "window and keep_firing after {end}: {over}");
        assert_eq!((page.label("svc"), page.label("point")), ("card", ""));
        assert_eq!((&page.fingerprint, &page.evidence), (&resolved.fingerprint, &resolved.evidence));
        assert_eq!(page.evidence[0].text, "shown");
        let lasted = resolved.ends_at.unwrap().duration_since(resolved.starts_at).unwrap();
        assert_eq!((resolved.starts_at, lasted.as_secs()), (page.starts_at, over - fired));
    }
}

#[test]
fn a_rule_fires_when_it_was_crossed_for_as_long_as_it_says() {
    let mut rule = rule("FivetupleStalled");
    (rule.pending, rule.keep_firing) = (Duration::from_secs(5), Duration::from_secs(3));
    let mut world = World::new(vec![rule]);
    let at = world.snapshot.index(OUTSIDE, CARD);
    let mut states = Vec::new();
    // Thresholds: above 9, clear at 2.
    for stalled in [10, 10, 10, 5, 10, 10, 10, 10, 10, 10, 5, 2, 2, 5, 2, 2, 2, 2, 2] {
        world.snapshot.open[at].stalled = stalled;
        world.second();
        states.push(world.engine.standings()[0].state);
    }
    use State::{Clearing as C, Firing as F, Inactive as I, Pending as P};
    assert_eq!(states, [P, P, P, I, P, P, P, P, P, F, F, C, C, F, C, C, C, I, I]);
    assert_eq!(world.times(), [(10, Status::Firing), (18, Status::Resolved)]);
}

#[test]
fn points_are_one_group_unless_the_rule_tells_them_apart() {
    let count = |by| {
        let mut world = World::new(vec![Rule { by, ..rule("FivetupleMiddleboxReset") }]);
        for point in [0, 1] {
            world.add(point, Anomaly::Reset.place(Side::Server, 1), 1 + point as u64);
        }
        world.second();
        let told = world.told.iter().map(|(_, alert)| (alert.label("point").to_owned(), alert.value));
        told.collect::<Vec<_>>()
    };
    assert_eq!(count(By { svc: true, point: false }), [(String::new(), Some(2.0))], "the worst");
    let both = [("outside".to_owned(), Some(1.0)), ("dmz".to_owned(), Some(2.0))];
    assert_eq!(count(By { svc: true, point: true }), both);
}

#[test]
fn a_service_has_dropped_to_nothing_where_no_point_sees_any_of_it() {
    let mut world = World::new(vec![rule("FivetupleDropToZero")]);
    for n in 0..400 {
        world.opened(1, u64::from(n < 200));
        world.opened(OUTSIDE, u64::from(n < 100));
        world.second();
    }
    assert_eq!(world.times(), [(260, Status::Firing)], "a minute after the last");
    for _ in 0..60 {
        world.opened(1, 1);
        world.second();
    }
    assert_eq!(world.times()[1..], [(431, Status::Resolved)], "half a minute after the first");
}

#[test]
fn what_appears_later_was_at_nothing_before() {
    let mut world = World::new(vec![rule("FivetupleReorderedInside")]);
    (0..10).for_each(|_| world.second());
    let mut figures = Figures::default();
    figures.sides[0].reordered = 3;
    world.snapshot.inside.insert(Pair { from: 0, to: 1, svc: 1 }, figures);
    world.second();
    assert_eq!(world.times(), [(11, Status::Firing)]);
    assert_eq!(world.told[0].1.value, Some(3.0));
}

#[test]
fn a_counter_that_is_set_back_neither_fires_nor_clears() {
    let mut world = World::new(vec![rule("FivetupleResetsTimeWait")]);
    world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 5);
    world.second();
    let at = world.snapshot.index(OUTSIDE, CARD);
    world.snapshot.totals[at] = Default::default();
    (0..100).for_each(|_| world.second());
    assert_eq!(world.times(), [(1, Status::Firing)]);
    assert_eq!(world.engine.standings()[0].value, Some(5.0), "of the last five minutes");
}

#[test]
fn a_stepped_wall_clock_moves_times_and_nothing_else() {
    for step in [-86_400_i64, 86_400] {
        let mut world = World::new(vec![rule("FivetupleResetsTimeWait")]);
        world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 5);
        world.second();
        let told = world.told[0].1.starts_at;
        let moved = |at: SystemTime| match u64::try_from(step) {
            Ok(ahead) => at + Duration::from_secs(ahead),
            Err(_) => at - Duration::from_secs(step.unsigned_abs()),
        };
        world.now.wall = moved(world.now.wall);
        (0..10).for_each(|_| world.second());
        assert_eq!(world.engine.firing()[0].starts_at, moved(told));
        (0..1_000).for_each(|_| world.second());
        let (over, _) = world.times()[1];
        assert!((901..=906).contains(&over), "window, a step of it, and keep_firing: {over}");
        let (at, over) = &world.told[1];
        assert_eq!(over.ends_at.unwrap().duration_since(over.starts_at).unwrap().as_secs(), at - 1);
    }
}

#[test]
fn while_there_are_no_figures_nothing_changes_and_no_time_counts() {
    let mut stalled = rule("FivetupleStalled");
    (stalled.pending, stalled.keep_firing) = (Duration::from_secs(5), Duration::from_secs(5));
    let mut world = World::new(vec![stalled]);
    let at = world.snapshot.index(OUTSIDE, CARD);
    world.snapshot.open[at].stalled = 99;
    (0..3).for_each(|_| world.second());
    world.pass(Duration::from_secs(600));
    world.second();
    assert_eq!(world.engine.standings()[0].state, State::Pending, "crossed for 2 s that are known");
    (0..3).for_each(|_| world.second());
    assert_eq!(world.times(), [(607, Status::Firing)]);
    world.snapshot.open[at].stalled = 0;
    (0..3).for_each(|_| world.second());
    world.pass(Duration::from_secs(600));
    (0..2).for_each(|_| world.second());
    assert_eq!(world.times().len(), 1);
    (0..5).for_each(|_| world.second());
    assert_eq!(world.times().len(), 2);
}

#[test]
fn a_reload_keeps_what_fires_while_it_is_the_same_alert() {
    let first = rule("FivetupleResetsTimeWait");
    let mut world = World::new(vec![first.clone()]);
    (0..300).for_each(|_| world.second());
    world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 5);
    world.second();
    let higher = Rule { fire: Limit::Above(1_000.0), clear: 900.0, ..first.clone() };
    world.reload(vec![higher.clone()]);
    (0..100).for_each(|_| world.second());
    assert_eq!(world.times(), [(301, Status::Firing)], "other thresholds: it goes on");
    assert_eq!(world.engine.standings()[0].state, State::Clearing, "and is judged by those");
    let other_window = Rule { window: Duration::from_secs(60), ..first.clone() };
    world.reload(vec![other_window]);
    (0..30).for_each(|_| world.second());
    assert_eq!(world.engine.standings()[0].state, State::Clearing, "the new window is not whole yet");
    world.reload(vec![Rule { severity: Severity::Watch, ..first }]);
    assert_eq!(world.times()[1..], [(431, Status::Resolved)], "it is another alert now");
    world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 1);
    world.second();
    world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 1);
    world.second();
    assert_eq!(world.times()[2..], [(433, Status::Firing)], "what was before the new rule is not new");
    world.reload(vec![]);
    assert_eq!(world.times()[3..], [(433, Status::Resolved)], "the rule is no more");
}

#[test]
fn the_alerts_of_a_service_that_is_no_more_are_over() {
    let mut world = World::new(vec![rule("FivetupleDropToZero")]);
    for n in 0..200 {
        world.opened(OUTSIDE, u64::from(n < 100));
        world.second();
    }
    assert_eq!(world.times().len(), 1);
    let over = world.engine.reload(vec![rule("FivetupleDropToZero")], BTreeMap::new(), Vec::new());
    assert!(over.is_empty());
    world.second();
    assert_eq!(world.times()[1..], [(201, Status::Resolved)]);
}

#[test]
fn a_service_that_comes_back_has_no_sudden_past() {
    let rules = || vec![rule("FivetupleResetsTimeWait")];
    let mut world = World::new(rules());
    world.add(OUTSIDE, Anomaly::Reset.place(Side::Server, 0), 5);
    world.second();
    world.engine.reload(rules(), BTreeMap::new(), vec!["bank".to_owned()]);
    (0..600).for_each(|_| world.second());
    assert_eq!(world.times(), [(1, Status::Firing), (2, Status::Resolved)]);
    world.reload(rules());
    (0..600).for_each(|_| world.second());
    assert_eq!(world.times().len(), 2, "its resets are long ago");
}

#[test]
fn what_fired_before_a_restart_is_not_told_again_and_is_over_once() {
    let mut before = World::new(vec![rule("FivetupleSuccessRate"), rule("FivetupleRefused")]);
    (0..120).for_each(|n| before.traffic(n < 60));
    assert_eq!(before.times().len(), 1);
    let saved = before.engine.firing();
    for heals in [false, true] {
        let mut world = World::new(vec![rule("FivetupleSuccessRate"), rule("FivetupleRefused")]);
        world.now = before.now;
        world.engine = Engine::new(
            vec![rule("FivetupleSuccessRate"), rule("FivetupleRefused")],
            BTreeMap::new(),
            svcs(),
            world.now,
        );
        world.engine.restore(saved.clone());
        assert_eq!(world.engine.firing().len(), 1, "an Alertmanager is reminded from the start");
        (0..300).for_each(|_| world.traffic(heals));
        let want = if heals { vec![Status::Resolved] } else { Vec::new() };
        let told: Vec<_> = world.told.iter().map(|(_, alert)| alert.status).collect();
        assert_eq!(told, want);
        if let Some((_, over)) = world.told.first() {
            assert_eq!((over.starts_at, &over.fingerprint), (saved[0].starts_at, &saved[0].fingerprint));
        }
    }
}

#[test]
fn what_fired_before_a_restart_and_is_no_more_is_over() {
    let mut before = World::new(vec![rule("FivetupleSuccessRate"), rule("FivetupleReorderedInside")]);
    let mut figures = Figures::default();
    figures.sides[0].reordered = 3;
    before.snapshot.inside.insert(Pair { from: 0, to: 1, svc: 1 }, figures);
    (0..60).for_each(|_| before.traffic(false));
    assert_eq!(before.times().len(), 2);
    // The one has no rule any more; the other's pair of points never shows again.
    let mut world = World::new(vec![rule("FivetupleReorderedInside")]);
    world.engine.restore(before.engine.firing());
    (0..2_000).for_each(|_| world.second());
    let over = 300 + 600 + 60;
    assert_eq!(world.times(), [(1, Status::Resolved), (over, Status::Resolved)]);
    assert!(world.engine.firing().is_empty());
}

/// Every rule is silent while nothing is wrong: points attached, connections answered, a few losses.
#[test]
fn the_built_in_rules_are_silent_while_all_is_well() {
    let mut world = World::new(crate::alert::defaults::rules(""));
    for (point, name) in ["outside", "dmz"].iter().enumerate() {
        let hooks = ["ingress", "egress"].map(|hook| crate::aggregate::snapshot::Attached {
            point: (*name).to_owned(),
            hook,
            mode: Some(crate::aggregate::snapshot::Mode::Tcx),
        });
        if point == 0 {
            world.snapshot.attached.clear();
        }
        world.snapshot.attached.extend(hooks);
    }
    for n in 0..3_600 {
        for point in [0, 1] {
            world.opened(point, 10);
            world.ended(point, Served::Answered, 10);
            world.add(point, Traffic::Segments.place(Side::Client, 0), 1_000);
            world.add(point, Anomaly::Retransmission.place(Side::Client, 0), u64::from(n % 2 == 0));
        }
        world.second();
    }
    assert_eq!(world.times(), []);
    assert_eq!(world.engine.standings().len(), 11 + 2 * 2 + 2, "svc card, two points, the agent");
}

#[test]
fn a_number_that_is_another_point_s_now_begins_anew() {
    let rule = Rule { by: By { svc: true, point: true }, ..rule("FivetupleResetsTimeWait") };
    let mut world = World::new(vec![rule]);
    let time_wait = Anomaly::Reset.place(Side::Server, 0);
    world.second();
    world.add(OUTSIDE, time_wait, 2);
    world.second();
    world.snapshot.points[OUTSIDE] = "veth9".to_owned();
    let at = world.snapshot.index(OUTSIDE, CARD);
    world.snapshot.totals[at].0.fill(0);
    world.second();
    world.add(OUTSIDE, time_wait, 1);
    world.second();
    let told: Vec<_> = world.told.iter().map(|(_, alert)| (alert.status, alert.label("point"))).collect();
    assert_eq!(told, [(Status::Firing, "outside"), (Status::Resolved, "outside"), (Status::Firing, "veth9")]);
}
