//! `accuracy`: how right the verdicts are, and how right tshark's are beside them.
//!
//! Each capture of a folder is given to `fivetuple replay`, and what it says is compared with the reference that lies
//! beside the capture, by the rules of the benchmark's `compare.py`; the figures are those that its `run_benchmark.py`
//! prints. tshark gets the same captures, so every figure has one to be measured by. The captures in this repository
//! (`tests/captures`) are a small set of the same form.
//!
//! How to read the table:
//!
//! - A **class** is a label of the benchmark. `precision` is the part of what a tool calls so that is so; `recall` the
//!   part of what is so that it calls so; F1 their harmonic mean. `true` is how many there are. A dash stands where
//!   nothing can be divided: a tool that never says it has no precision.
//! - The **place** is where the capture was taken, from each packet's sender. At the sender nothing is missing, so all
//!   that repeats was sent again. At the receiver a segment may fill a hole because it was overtaken, or because its
//!   first copy was lost on the way: telling these two apart is what differs between tools.
//! - `(visible)` leaves out segments that were sent again and still came in order, because the first copy was lost before
//!   this place; nobody can see those in sequence numbers. Only captures that have such segments count there, and of
//!   the flows only those without one: the counts of the others cannot be right.
//! - `retransmission_or_out_of_order` joins the names for a segment that does not advance: where it is better than its
//!   parts, a tool found the segment and misnamed it.
//! - Against `public`, the reference is tshark itself. Where that is wrong (see the rule of 3 ms in `oracle/`), following
//!   the kernel means to differ.
//!
//! With `--senders` the labelled captures are judged again as other hosts would have sent them; see [`senders`].

mod compare;
mod figure;
mod flows;
mod folder;
mod judge;
mod label;
mod line;
mod oracle;
mod place;
mod report;
mod resets;
mod senders;
mod sum;
mod wire;

#[cfg(test)]
mod agreement;

use std::path::PathBuf;

use anyhow::{Result, bail};
use xtask::sh;

use self::{folder::Kind, judge::Replay, oracle::Oracle};
use crate::{Usage, build, cargo, setup, unknown_argument};

/// The captures that every clone has.
const OWN: &str = "tests/captures";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    data: PathBuf,
    senders: bool,
    json: bool,
    /// How many disagreements to list for each reference.
    show: usize,
}

/// Judges the captures of a folder, and prints the figures.
pub fn verb(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    setup::ensure(setup::Scope::Test)?;
    let binary = build::agent(&build::Options { release: true, probe_log: false })?;
    let directory = cargo::target_dir().join("accuracy");
    let (replay, oracle) = (Replay { binary }, Oracle::new(&directory)?);

    let cases = folder::cases(&options.data)?;
    let verdict = judge::judge(&cases, &replay, &oracle)?;
    let figures = judge::sum(&verdict);
    let labelled: Vec<_> = cases.into_iter().filter(|case| case.kind == Kind::Truth).collect();
    let rewritten = if options.senders {
        senders::judge(&labelled, &directory.join("senders"), &replay, &oracle)?
    } else {
        Vec::new()
    };

    if options.json {
        let mut all = figure::figures("", &figures);
        for senders in &rewritten {
            all.extend(figure::figures(&format!("senders/{}/", senders.name), &senders.figures));
        }
        for figure in all {
            println!("{}", figure.json());
        }
    } else {
        print!("{}", report::tables(&figures, oracle.version()));
        if options.senders {
            print!("{}", report::senders(&figures, &rewritten));
        }
        print!("{}", report::disagreements(&verdict.judged, options.show));
    }
    for (kind, why) in &verdict.failed {
        eprintln!("accuracy: {kind}: not judged: {why}");
    }
    match verdict.failed.len() {
        0 => Ok(()),
        failed => bail!("accuracy: {failed} captures were not judged and count nowhere"),
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { data: sh::root().join(OWN), senders: false, json: false, show: 10 };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| Usage(format!("accuracy: {arg} needs a value")));
        match arg.as_str() {
            "--data" => options.data = PathBuf::from(value()?),
            "--show" => {
                let text = value()?;
                let wrong = |_| Usage(format!("accuracy: --show needs a number, not {text:?}"));
                options.show = text.parse().map_err(wrong)?;
            }
            "--senders" => options.senders = true,
            "--json" => options.json = true,
            other => return Err(unknown_argument("accuracy", other)),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_captures_of_the_repository_are_the_default() {
        assert!(parsed(&[]).unwrap().data.ends_with(OWN));
        let options = parsed(&["--data", "dev", "--show", "3", "--json", "--senders"]).unwrap();
        assert_eq!(options, Options { data: "dev".into(), senders: true, json: true, show: 3 });
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for wrong in [&["--data"][..], &["--show", "many"], &["dev"]] {
            assert!(parsed(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }
}
