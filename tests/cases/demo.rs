//! `cargo xtask demo`, in worlds that are smaller: what it shows of the agent is what happened.

use std::cell::RefCell;
use std::time::Duration;

use harness::cases::{bank_g, campus_card};
use harness::demo::{self, Played};

/// Plays it, and returns what was told, too.
fn watched(play: impl FnOnce(demo::Tell<'_>) -> Played) -> (Played, String) {
    let told = RefCell::new(String::new());
    let played = play(&|line| {
        let mut told = told.borrow_mut();
        told.push_str(line);
        told.push('\n');
    });
    println!("{}{}", told.borrow(), played.table);
    assert_eq!(played.wrong, Vec::<String>::new());
    assert!(played.picture.ends_with("</svg>\n"));
    (played, told.into_inner())
}

/// A figure and its baseline.
fn figure(played: &Played, name: &str) -> [Option<f64>; 2] {
    let mut figures = played.figures.iter().filter(|figure| figure.name == name);
    let figure = figures.next().unwrap_or_else(|| panic!("no figure {name} in {:?}", played.figures));
    assert!(figures.next().is_none(), "{name} comes twice");
    [figure.value, figure.baseline]
}

#[test]
fn the_campus_card_is_shown_as_it_was() {
    let (played, told) = watched(|tell| demo::campus_card::play(campus_card::Options::default(), 60, tell));
    let [unanswered, truth] = figure(&played, "campus-card/unanswered");
    assert!(unanswered > Some(0.0) && unanswered == truth);
    for name in ["unanswered_truth", "reordered", "reordered_truth", "vanished_at_waf"] {
        assert_eq!(figure(&played, &format!("campus-card/{name}"))[0], truth, "{name}");
    }
    assert_eq!(figure(&played, "campus-card/payments"), [Some(60.0); 2]);
    for line in ["$ fivetuple locate --svc campus-card", "$ fivetuple explain --svc campus-card"] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
}

#[test]
fn bank_g_is_shown_as_it_was() {
    let options = bank_g::Options {
        merchants: 3,
        payments: 76,
        own_ports: 60,
        interval: Duration::from_millis(30),
        time_wait: [Duration::from_millis(500), Duration::from_millis(50)],
        ..bank_g::Options::default()
    };
    let (played, told) = watched(|tell| demo::bank_g::play(options, tell));
    let resets = [0, 1, 2, 3].map(|stage| figure(&played, &format!("bank-g/resets/stage{stage}")));
    assert!(resets.iter().all(|[said, truth]| said == truth), "{resets:?}");
    assert!(resets[0][0] > Some(0.0), "{resets:?}");
    for (stage, [_, truth]) in resets.into_iter().enumerate().skip(1) {
        let name = format!("bank-g/predicted/stage{stage}");
        let ends = ["/low", "", "/high"].map(|end| figure(&played, &format!("{name}{end}"))[0]);
        assert!(ends.is_sorted(), "{ends:?}");
        assert_eq!(figure(&played, &name)[1], truth);
    }
    let [proved, all] = figure(&played, "bank-g/time_wait_proved");
    assert_eq!(proved, all);
    assert!(told.contains("$ fivetuple reuse --clients front --proxies leg1 --time-wait 50ms"), "{told}");
}
