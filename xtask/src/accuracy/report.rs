//! The figures as tables for people.

use std::fmt::Write as _;

use super::{
    compare::{Counts, share},
    figure::{WHOLES, classes, places},
    folder::Kind,
    judge::Judged,
    place::Place,
    senders::{Senders, VARIANTS},
    sum::{Both, Figures},
};

/// One table for each of those whose word is taken, and below it what is counted in whole flows and captures.
pub fn tables(figures: &Figures, oracle: &str) -> String {
    let mut out = String::new();
    // The kernels' word counts most.
    for (kind, both) in figures.iter().rev() {
        let whose = match kind {
            Kind::Truth => "what the kernels did",
            Kind::Public => "what tshark says of public captures",
            Kind::Deepflow => "what DeepFlow's tests expect",
            Kind::Formats => "the same packets in other link types and file formats",
        };
        let _ = writeln!(
            out,
            "\n{kind}: against {whose}; {} captures, {} packets",
            both.files, both.ours.packets[0]
        );
        let beside = if both.tshark.is_some() { oracle } else { "" };
        let _ = writeln!(out, "\n  {:40} {:8} {:>6}   {:24}   {beside}", "", "", "", "fivetuple");
        let columns = format!("{:>8}{:>8}{:>8}", "precis.", "recall", "F1");
        let second = if both.tshark.is_some() { &columns } else { "" };
        let _ = writeln!(out, "  {:40} {:8} {:>6} {columns}   {second}", "class", "place", "true");
        out += &class_rows(both);
        out += &whole_rows(both);
    }
    out
}

fn class_rows(both: &Both) -> String {
    let mut out = String::new();
    for (class, _) in classes(both, None) {
        let mut name = class.as_str();
        for place in places(&both.ours).collect::<Vec<_>>().into_iter().rev() {
            let Some((_, ours)) = classes(both, place).into_iter().find(|(known, _)| *known == class) else {
                continue;
            };
            let tshark = both.tshark.as_ref().map(|sum| sum.class(place, &class).unwrap_or_default());
            let _ = writeln!(
                out,
                "  {name:40} {:8} {:6} {}   {}",
                place_name(place, both),
                ours.right + ours.missed,
                scores(ours),
                tshark.map(scores).unwrap_or_default(),
            );
            name = "";
        }
    }
    out
}

fn place_name(place: Option<Place>, both: &Both) -> String {
    match place {
        Some(place) => place.to_string(),
        None if both.ours.places.is_empty() => String::new(),
        None => "all".to_owned(),
    }
}

fn scores(counts: Counts) -> String {
    [counts.precision(), counts.recall(), counts.f1()].map(|value| format!("{:>8}", number(value))).concat()
}

/// Four digits; a dash where there is nothing to divide by.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn whole_rows(both: &Both) -> String {
    let mut out = "\n".to_owned();
    for (name, of) in WHOLES {
        let [all, part] = of(&both.ours);
        let tshark = both.tshark.as_ref().map(of);
        if all == 0 && tshark.is_none_or(|[all, _]| all == 0) {
            continue;
        }
        let cell = |[all, part]: [u64; 2]| format!("{part} of {all} ({})", number(share(part, all)));
        let beside = tshark.map(|whole| format!("   tshark {}", cell(whole))).unwrap_or_default();
        let _ = writeln!(out, "  {name:45} {:28}{beside}", cell([all, part]));
    }
    out
}

/// The classes that the senders' table has.
const COMPARED: [&str; 6] = [
    "retransmission",
    "out_of_order",
    "spurious_retransmission",
    "net_duplicate",
    "syn_retransmission",
    "retransmission_or_out_of_order",
];

/// F1 for each way of sending: fivetuple's, and tshark's behind it.
pub fn senders(as_captured: &Figures, rewritten: &[Senders]) -> String {
    let mut out = "\nsenders: F1 on copies of the labelled captures as other hosts would have sent them, and tshark's\n\n"
        .to_owned();
    let _ = write!(out, "  {:31} {:8} {:>15}", "class", "place", "as captured");
    for variant in &VARIANTS {
        let _ = write!(out, " {:>15}", variant.name);
    }
    out.push('\n');
    let columns: Vec<Option<&Both>> = std::iter::once(as_captured)
        .chain(rewritten.iter().map(|senders| &senders.figures))
        .map(|figures| figures.get(&Kind::Truth))
        .collect();
    for class in COMPARED {
        let mut name = class;
        for place in Place::ALL.into_iter().map(Some).chain([None]) {
            let cells: Vec<String> = columns.iter().map(|both| f1_cell(*both, place, class)).collect();
            if cells.iter().any(|cell| cell.chars().any(|c| c.is_ascii_digit())) {
                let place = place.map_or_else(|| "all".to_owned(), |place| place.to_string());
                let _ = write!(out, "  {name:31} {place:8}");
                let _ =
                    writeln!(out, "{}", cells.iter().map(|cell| format!(" {cell:>15}")).collect::<String>());
                name = "";
            }
        }
    }
    out
}

fn f1_cell(both: Option<&Both>, place: Option<Place>, class: &str) -> String {
    let f1 = |sum: &super::sum::Sum| sum.class(place, class).and_then(Counts::f1);
    let Some(both) = both else { return String::new() };
    format!("{} {}", number(f1(&both.ours)), number(both.tshark.as_ref().and_then(f1)))
}

/// Where fivetuple disagrees with each reference: at most so many for each of them, spread over the captures.
pub fn disagreements(judged: &[Judged], show: usize) -> String {
    let mut out = String::new();
    for kind in [Kind::Truth, Kind::Formats, Kind::Deepflow, Kind::Public] {
        let of_kind: Vec<&Judged> = judged.iter().filter(|capture| capture.kind == kind).collect();
        let all: usize = of_kind.iter().map(|capture| capture.disagreements.len()).sum();
        if all == 0 || show == 0 {
            continue;
        }
        let _ = writeln!(
            out,
            "\n{kind}: {} of {all} packets labelled otherwise (--show N for more)",
            all.min(show)
        );
        // The first of each capture, then the second of each: one bad capture does not hide the others.
        let most = of_kind.iter().map(|capture| capture.disagreements.len()).max().unwrap_or(0);
        let in_turn = (0..most).flat_map(|nth| {
            of_kind.iter().filter_map(move |capture| Some((&capture.name, capture.disagreements.get(nth)?)))
        });
        for (name, (found, said)) in in_turn.take(show) {
            let _ = write!(out, "  {name} frame {}: {kind} says {}", found.frame, found.reference);
            let _ = write!(out, ", fivetuple {}", found.candidate);
            let reasons: Vec<&str> =
                [&said.verdict, &said.evidence].into_iter().flatten().map(String::as_str).collect();
            let _ = writeln!(
                out,
                "{}",
                if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", by ")) }
            );
        }
    }
    out
}
