//! `cargo xtask demo`: the two cases, played for a person to watch.
//!
//! [`DEMOS`] is the list. It ends with 1 when what the agent says is not what happened, and says what differs; a
//! prediction that misses is shown, as predictions are.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, builder::PossibleValuesParser};
use harness::cases;
use harness::demo::{Played, Tell, bank_g, campus_card};
use harness::report;

/// Payments of the campus card.
const PAYMENTS: usize = 200;

/// One case.
struct Demo {
    name: &'static str,
    play: fn(Tell<'_>) -> Played,
}

const DEMOS: &[Demo] = &[
    Demo {
        name: "campus-card",
        play: |tell| campus_card::play(cases::campus_card::Options::default(), PAYMENTS, tell),
    },
    Demo { name: "bank-g", play: |tell| bank_g::play(cases::bank_g::Options::default(), tell) },
];

/// The two cases, played for a person to watch. `cargo xtask demo` starts this, and builds what it needs.
#[derive(Debug, PartialEq, Eq, Parser)]
struct Options {
    /// Where pictures go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One figure a line, for programs, and nothing else.
    #[arg(long)]
    json: bool,
    /// Which cases; all, if none is named.
    #[arg(value_parser = PossibleValuesParser::new(DEMOS.iter().map(|demo| demo.name)))]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("demo: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that the agent said is what happened.
fn run(options: &Options) -> Result<bool> {
    let tell: Tell<'_> = if options.json { &|_| {} } else { &|line| println!("{line}") };
    let chosen =
        |demo: &&Demo| options.names.is_empty() || options.names.iter().any(|name| name == demo.name);
    let mut right = true;
    for demo in DEMOS.iter().filter(chosen) {
        let played = (demo.play)(tell);
        if options.json {
            played.figures.iter().for_each(|figure| println!("{}", figure.json()));
        }
        tell(&format!("\nTruth beside what fivetuple says\n\n{}", played.table));
        report::save(&options.out, &format!("{}.svg", demo.name), &played.picture)?;
        for what in &played.wrong {
            eprintln!("demo: {}: {what}", demo.name);
            right = false;
        }
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Ok(Options::try_parse_from(format!("demo {line}").split_whitespace())?)
    }

    #[test]
    fn names_and_flags_in_any_order() {
        let want = Options { out: "d".into(), json: true, names: vec!["bank-g".to_owned()] };
        assert_eq!(parse("bank-g --json --out d").unwrap(), want);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in ["", "bank-g", "--out", "--out d bank-h", "--out d --quick"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
