//! `test`: house rules, format, lints, and every test there is.
//!
//! Stages run one after the other, and all of them run: a wrong format does not hide a failing test.

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};
use xtask::sh;

use crate::{Usage, cargo, kernel_log, kernels, privilege, setup, tidy};

/// One row of [`STAGES`].
struct Stage {
    name: &'static str,
    run: fn(&Selection) -> Result<()>,
    /// Does a name filter choose among what it runs?
    filters: bool,
}

/// The whole workspace is selected each time, so that every stage has the same features and nothing is built twice.
const STAGES: &[Stage] = &[
    Stage { name: "tidy", run: |_| tidy::check(), filters: false },
    Stage { name: "fmt", run: |_| sh::run(cargo::command("fmt").args(["--all", "--check"])), filters: false },
    Stage { name: "clippy", run: |_| clippy(), filters: false },
    Stage { name: "unit", run: |s| cargo_test(s, &["--lib", "--bins"], &[]), filters: true },
    Stage { name: "doc", run: |s| cargo_test(s, &["--doc"], &[]), filters: true },
    Stage { name: "kernel", run: |s| kernel(s, "*"), filters: true },
];

/// What to run of it all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selection {
    /// A stage, or an integration test by its name.
    only: Option<String>,
    /// Names of tests, or parts of names.
    filters: Vec<String>,
    /// Arguments of the test binaries.
    extra: Vec<String>,
}

/// Runs what the arguments select: all of it, if there are none.
pub fn verb(args: &[String]) -> Result<()> {
    match args {
        [flag, list] if flag == "--kernel" => return kernels::verb(list),
        [flag, ..] if flag == "--kernel" => {
            return Err(
                Usage("test: --kernel takes one list of kernels, and nothing beside it".to_owned()).into()
            );
        }
        _ => {}
    }
    let selection = parse(args)?;
    setup::ensure(setup::Scope::Test)?;
    run(&selection)
}

fn parse(args: &[String]) -> Result<Selection> {
    let mut selection = Selection::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => match args.next() {
                Some(name) => selection.only = Some(name.clone()),
                None => return Err(Usage("test: --only needs a name".to_owned()).into()),
            },
            "--" => selection.extra.extend(args.by_ref().cloned()),
            flag if flag.starts_with('-') => {
                let hint = "test: arguments of the test binaries come after `--`";
                return Err(Usage(format!("{hint}: -- {flag}")).into());
            }
            filter => selection.filters.push(filter.to_owned()),
        }
    }
    Ok(selection)
}

fn run(selection: &Selection) -> Result<()> {
    let stages: Vec<&Stage> = STAGES.iter().filter(|stage| selects(selection, stage)).collect();
    let (mut results, mut failed) = (Vec::new(), false);
    let mut note = |name: &str, started: Instant, result: Result<()>| {
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        if let Err(err) = result {
            eprintln!("xtask: {name}: {err:#}");
            failed = true;
        }
        results.push(format!("{name} {verdict} ({:.1} s)", started.elapsed().as_secs_f32()));
    };
    match &selection.only {
        Some(name) if stages.is_empty() => note(name, Instant::now(), kernel(selection, name)),
        _ => {
            for stage in stages {
                eprintln!("xtask: test: {}", stage.name);
                note(stage.name, Instant::now(), (stage.run)(selection));
            }
        }
    }
    let summary = results.join(", ");
    if failed {
        bail!("test: {summary}");
    }
    println!("test: {summary}");
    Ok(())
}

fn selects(selection: &Selection, stage: &Stage) -> bool {
    match &selection.only {
        Some(name) => name == stage.name,
        None => stage.filters || (selection.filters.is_empty() && selection.extra.is_empty()),
    }
}

fn clippy() -> Result<()> {
    sh::run(cargo::command("clippy").args([
        "--workspace",
        "--all-targets",
        // Tests that have no stage here are read all the same.
        "--features=packaging/helm",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Integration tests. They make network namespaces and load kernel programs, which takes root; building them does not. The
/// kernel may not complain about any of it.
fn kernel(selection: &Selection, name: &str) -> Result<()> {
    // They start the agent as an operator does, from the file beside them.
    sh::run(cargo::command("build").args(["--workspace", "--bins", "--locked"]))?;
    let sudo = privilege::prefix("the tests make network namespaces and load kernel programs")?;
    let runner = if sudo.is_empty() {
        Vec::new()
    } else {
        let words: Vec<String> = sudo.iter().map(|word| format!("{word:?}")).collect();
        vec!["--config".to_owned(), format!("target.{}.runner=[{}]", cargo::host()?, words.join(","))]
    };
    kernel_log::silent_while(|| cargo_test(selection, &["--test", name], &runner))
}

fn cargo_test(selection: &Selection, targets: &[&str], config: &[String]) -> Result<()> {
    sh::run(&mut test_command(selection, targets, config))
}

fn test_command(selection: &Selection, targets: &[&str], config: &[String]) -> Command {
    let mut cmd = cargo::command("test");
    cmd.args(config).args(["--workspace", "--locked", "--no-fail-fast"]).args(targets);
    // After `--`, where any number of filters is allowed; cargo itself takes only one.
    cmd.arg("--").args(&selection.filters).args(&selection.extra);
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Selection> {
        parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    fn stages(args: &[&str]) -> Vec<&'static str> {
        let selection = parsed(args).unwrap();
        STAGES.iter().filter(|s| selects(&selection, s)).map(|s| s.name).collect()
    }

    #[test]
    fn arguments_select_stages() {
        assert_eq!(stages(&[]), ["tidy", "fmt", "clippy", "unit", "doc", "kernel"]);
        assert_eq!(stages(&["zero_window"]), ["unit", "doc", "kernel"]);
        assert_eq!(stages(&["--only", "clippy"]), ["clippy"]);
        assert!(stages(&["--only", "netns"]).is_empty(), "a test binary is no stage");
    }

    #[test]
    fn filters_and_the_rest_reach_the_test_binaries() {
        let selection = parsed(&["--only", "netns", "retrans", "rst", "--", "--nocapture"]).unwrap();
        let line = sh::show(&test_command(&selection, &["--test", "netns"], &[]));
        assert!(
            line.ends_with(
                "test --workspace --locked --no-fail-fast --test netns -- retrans rst --nocapture"
            ),
            "{line}"
        );
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for wrong in [&["--only"][..], &["--nocapture"]] {
            assert!(parsed(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }
}
