//! The answer for people: the sentence first, then the numbers behind it.

use super::{
    report::{Candidate, Finding, Population, Report, Section, Standing},
    sentence::{connections, percent},
};
use crate::table::{table, words};
use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

/// The whole answer.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}\n", report.answer);
    // The first one's answer is that of the whole.
    for (place, section) in report.sections.iter().enumerate() {
        text.push('\n');
        if place > 0 {
            let _ = writeln!(text, "{}", section.answer);
        }
        text.push_str(&candidates(section));
        for line in lines(section, report.level, report.sections.len()) {
            let _ = writeln!(text, " {line}");
        }
    }
    if !report.gaps.is_empty() {
        text.push_str("\nMissing\n");
        report.gaps.iter().for_each(|gap| text.push_str(&format!(" {gap}\n")));
    }
    text
}

fn candidates(section: &Section) -> String {
    let header =
        words(&["", "WHAT", "FAILED WITH IT", "WITHOUT", "DIFFERENCE (95 %)", "P", "COVERS", "STANDING"]);
    let rows = section.candidates.iter().enumerate().flat_map(|(i, candidate)| {
        let also = candidate.also.iter();
        let also = also.map(|what| words(&["", what, "", "", "", "", "", "the same connections"]));
        std::iter::once(row(i + 1, candidate)).chain(also)
    });
    table("Set apart by", &header, rows.collect(), |i| matches!(i, 2..=6)).unwrap_or_default()
}

fn row(number: usize, candidate: &Candidate) -> Vec<String> {
    let d = candidate.difference;
    let points = |share: f64| format!("{:+.0}", 100.0 * share);
    vec![
        number.to_string(),
        candidate.what.clone(),
        format!("{}/{} {}", candidate.with.failed, candidate.with.all, percent(candidate.with.share())),
        format!(
            "{}/{} {}",
            candidate.without.failed,
            candidate.without.all,
            percent(candidate.without.share())
        ),
        format!("{} ({} to {})", points(d.value), points(d.low), points(d.high)),
        probability(candidate.p_corrected),
        percent(candidate.covers),
        standing(candidate.standing),
    ]
}

fn probability(p: f64) -> String {
    match p {
        p if p < 1e-99 => "<1e-99".to_owned(),
        p if p < 0.001 => format!("{p:.0e}"),
        p => format!("{p:.3}"),
    }
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::First => String::new(),
        Standing::Together { with, apart: 1 } => format!("goes with {}: 1 tells them apart", with + 1),
        Standing::Together { with, apart } => format!("goes with {}: {apart} tell them apart", with + 1),
        Standing::Further => "besides".to_owned(),
        Standing::Explained { by, .. } => format!("explained by {}", by + 1),
    }
}

/// What stands below the table.
fn lines(section: &Section, level: f64, sections: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if section.left_out > 0 {
        lines.push(format!("{} weaker ones are left out.", section.left_out));
    }
    if !section.candidates.is_empty() {
        let tests = if section.tests == 1 { "1 test".to_owned() } else { format!("{} tests", section.tests) };
        let points = if sections > 1 { format!(" at each of {sections} points") } else { String::new() };
        lines.push(format!(
            "P: Fisher's exact test, corrected (Holm) for {tests}{points}; {level} or less is told."
        ));
    }
    for (finding, title) in [
        (Finding::NoDifference, "No difference beyond chance"),
        (Finding::TooRare, "Too rare to tell"),
        (Finding::Same, "The same for all"),
        (Finding::Unknown, "Not known"),
    ] {
        let names = section.features.iter().filter(|looked| looked.finding == finding);
        let names: Vec<&str> = names.map(|looked| looked.feature.as_str()).collect();
        // Without two groups there was nothing to look for.
        if !names.is_empty() && section.population.failed > 0 && section.population.good > 0 {
            lines.push(format!("{title}: {}.", names.join(", ")));
        }
    }
    lines.push(population(&section.population));
    lines
}

fn population(p: &Population) -> String {
    let counts = |counts: &[(u64, &str)]| {
        let some = counts.iter().filter(|(n, _)| *n > 0);
        some.map(|(n, what)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
    };
    let how = counts(&[
        (p.unanswered, "unanswered"),
        (p.reset, "reset"),
        (p.refused, "refused"),
        (p.timed_out, "timed out"),
    ]);
    let how = if how.is_empty() { how } else { format!(" ({how})") };
    let mut text = format!("{} failed{how}, {} good", connections(p.failed), p.good);
    if let (Some(from), Some(to)) = (p.from_ns, p.to_ns) {
        let _ = write!(text, ", from {} to {}", time(from), time(to));
    }
    let left_out = counts(&[(p.open, "open"), (p.unused, "that asked nothing")]);
    if !left_out.is_empty() {
        let _ = write!(text, "; left out: {left_out}");
    }
    text + "."
}

fn time(ns: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(ns)).to_string()
}
