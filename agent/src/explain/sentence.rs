//! The answer in a sentence or two.

use super::{
    report::{Candidate, Population, Standing, Verdict},
    statistics::{Exact, Rate},
};

/// What a verdict is told from.
pub struct Case<'a> {
    /// The points.
    pub points: &'a [String],
    /// What came of the comparison.
    pub verdict: Verdict,
    /// The connections.
    pub population: &'a Population,
    /// What sets failed connections apart.
    pub candidates: &'a [Candidate],
    /// The largest value at which the least likely of all tests makes a claim.
    pub level: f64,
}

/// The answer.
pub fn answer(case: &Case<'_>) -> String {
    let Population { failed, good, unused, open, .. } = *case.population;
    let text = match case.verdict {
        Verdict::NoConnections => {
            format!("there is nothing to compare: {open} connections are open, {unused} asked nothing.")
        }
        Verdict::NoneFailed => format!("none of {} failed.", connections(good)),
        Verdict::AllFailed => {
            format!("all of {} failed; there is no good one to compare them with.", connections(failed))
        }
        Verdict::NotEnoughData => not_enough(failed, good, case.level),
        Verdict::Nothing => nothing(failed, good, case.level),
        Verdict::Together => together(case.candidates),
        Verdict::SetApart => set_apart(case.candidates),
    };
    format!("At {}: {text}{}", case.points.join(" and "), further(case.candidates))
}

/// A number of connections.
pub fn connections(n: u64) -> String {
    if n == 1 { "1 connection".to_owned() } else { format!("{n} connections") }
}

/// A share of a group in words.
pub fn rate(rate: Rate) -> String {
    format!("{} of {} ({})", rate.failed, rate.all, percent(rate.share()))
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    let digits = usize::from(!matches!(share, 0.0 | 1.0));
    format!("{:.digits$} %", 100.0 * share)
}

fn set_apart(candidates: &[Candidate]) -> String {
    let Some(first) = candidates.iter().find(|c| c.standing == Standing::First) else { return String::new() };
    format!("what sets failed connections apart is: {}. {}", first.what, rates(first))
}

fn rates(candidate: &Candidate) -> String {
    let Candidate { with, without, .. } = candidate;
    format!("Of those {} failed, of the others {}.", rate(*with), rate(*without))
}

/// What holds for the same connections as the first, or nearly; each with the number that would tell.
fn rivals(candidates: &[Candidate]) -> Vec<(&str, u64)> {
    let first = candidates.iter().position(|c| c.standing == Standing::First);
    let also = first.into_iter().flat_map(|i| candidates[i].also.iter().map(|what| (what.as_str(), 0)));
    let near = candidates.iter().filter_map(|c| match c.standing {
        Standing::Together { with, apart } if Some(with) == first => Some((c.what.as_str(), apart)),
        _ => None,
    });
    also.chain(near).collect()
}

fn together(candidates: &[Candidate]) -> String {
    let Some(first) = candidates.iter().find(|c| c.standing == Standing::First) else { return String::new() };
    let rivals: Vec<String> = rivals(candidates)
        .into_iter()
        .map(|(what, apart)| match apart {
            0 => format!("\"{what}\" (no connection tells them apart)"),
            1 => format!("\"{what}\" (1 connection tells them apart)"),
            n => format!("\"{what}\" ({n} connections tell them apart)"),
        })
        .collect();
    format!(
        "failed and good connections differ, but \"{}\" goes together in these data with {}: which of them matters \
         cannot be told. {}",
        first.what,
        rivals.join(", with "),
        rates(first)
    )
}

fn further(candidates: &[Candidate]) -> String {
    let further: Vec<&str> =
        candidates.iter().filter(|c| c.standing == Standing::Further).map(|c| c.what.as_str()).collect();
    if further.is_empty() { String::new() } else { format!(" Besides: {}.", further.join("; ")) }
}

fn not_enough(failed: u64, good: u64, level: f64) -> String {
    let few = |failed: u64, good: u64| {
        let exact = Exact::up_to((failed + good) as usize);
        exact.pure(failed, failed, failed + good) > level
    };
    // The smaller group is the one that more of would help most.
    let needed = if failed <= good {
        format!("{} failed ones beside {good} good ones", first(failed, |failed| !few(failed, good)))
    } else {
        format!("{} good ones beside {failed} failed ones", first(good, |good| !few(failed, good)))
    };
    format!(
        "not enough data: {failed} of {} failed, and even what holds for exactly these could be chance. \
         It takes at least {needed}.",
        connections(failed + good)
    )
}

fn nothing(failed: u64, good: u64, level: f64) -> String {
    let exact = Exact::up_to((failed + good) as usize);
    let least = first(0, |covered| covered >= failed || exact.pure(covered, failed, failed + good) <= level);
    format!(
        "nothing that was looked at sets the {failed} failed and the {good} good connections apart. \
         What holds for {least} or more of the failed ones and for no good one would have shown."
    )
}

/// The first number after `from` for which `enough` holds, as it does for all larger ones.
fn first(from: u64, enough: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut step) = (from, 1);
    while !enough(low + step) {
        (low, step) = (low + step, step * 2);
    }
    while step > 1 {
        step /= 2;
        if !enough(low + step) {
            low += step;
        }
    }
    low + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_that_is_enough_is_found() {
        for wanted in 1..200 {
            assert_eq!(first(0, |n| n >= wanted), wanted);
        }
        assert_eq!(first(7, |n| n >= 100), 100);
        assert_eq!(first(7, |_| true), 8);
    }

    #[test]
    fn how_much_data_it_takes_follows_from_the_test() {
        // 1 of (3+5 over 3) is 0.018, 1 of (4+5 over 4) is 0.0079.
        let text = not_enough(3, 5, 0.01);
        assert!(text.ends_with("It takes at least 4 failed ones beside 5 good ones."), "{text}");
        // 1 of (14 over 2) is 0.011, 1 of 13 is above the level.
        let text = not_enough(12, 1, 1.0 / 14.0 + 1e-9);
        assert!(text.ends_with("It takes at least 2 good ones beside 12 failed ones."), "{text}");
        let text = nothing(10, 10, 0.05 / 20.0);
        assert!(text.contains("What holds for 8 or more of the failed ones"), "{text}");
    }

    #[test]
    fn shares_are_exact_where_they_are_whole() {
        assert_eq!([0.0, 0.996, 1.0].map(percent), ["0 %", "99.6 %", "100 %"]);
        assert_eq!(rate(Rate { failed: 1, all: 3 }), "1 of 3 (33.3 %)");
    }
}
