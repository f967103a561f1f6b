//! `cargo xtask demo`: the two cases, played for a person to watch.
//!
//! [`DEMOS`] is the list. It ends with 1 when what the agent says is not what happened, and says what differs; a
//! prediction that misses is shown, as predictions are.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
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

/// The arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// Where pictures go.
    out: PathBuf,
    /// One figure a line, for programs, and nothing else.
    json: bool,
    /// Which cases; all, if none is named.
    names: Vec<String>,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--out" => options.out = args.next().context("--out needs a value")?.into(),
                "--json" => options.json = true,
                flag if flag.starts_with('-') => bail!("unknown argument {flag}"),
                name if DEMOS.iter().all(|demo| demo.name != name) => {
                    let names: Vec<_> = DEMOS.iter().map(|demo| demo.name).collect();
                    bail!("there is no demo {name:?}; there are {}", names.join(" and "))
                }
                name => options.names.push(name.to_owned()),
            }
        }
        if options.out.as_os_str().is_empty() {
            bail!("start this by `cargo xtask demo`, which builds what it needs");
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
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
        Options::parse(line.split_whitespace().map(str::to_owned))
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
