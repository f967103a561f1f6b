//! `test --kernel`: Debian's kernels, each in a virtual machine of its own, and in it the tests that one kernel decides.
//!
//! [`debian`] brings the kernels, [`world`] makes what such a machine finds in its memory, [`machine`] runs it. No
//! hardware's help is asked for: QEMU translates (TCG), which works everywhere and takes longer.

mod cpio;
mod debian;
mod machine;
mod world;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use xtask::sh;

use crate::{Usage, cargo, setup};

/// The test binaries that run there, and what of them; one after the other, as the machines are slow.
const TESTS: &[(&str, &str)] = &[("kernels", ""), ("parity", "scripted::")];

/// Runs the tests on each kernel of the list, `5.10,6.1`, and fails when one of them did.
pub fn verb(list: &str) -> Result<()> {
    let series = parse(list)?;
    setup::ensure(setup::Scope::Kernels)?;
    let cache = cargo::target_dir().join("kernels");
    let programs = build()?;
    let (mut results, mut failed) = (Vec::new(), false);
    for series in series {
        let started = Instant::now();
        eprintln!("xtask: test: kernel {series}");
        let mut note = |name: &str, verdict: &str| {
            results.push(format!("{name} {verdict} ({:.1} s)", started.elapsed().as_secs_f32()));
        };
        match on(&cache, &series, &programs) {
            Ok(release) => note(&release, "ok"),
            Err(err) => {
                eprintln!("xtask: kernel {series}: {err:#}");
                note(&series, "FAILED");
                failed = true;
            }
        }
    }
    let summary = results.join(", ");
    if failed {
        bail!("test: kernels: {summary}");
    }
    println!("test: kernels: {summary}");
    Ok(())
}

fn parse(list: &str) -> Result<Vec<String>> {
    let numbers = |text: &str| text.split('.').filter(|n| n.parse::<u16>().is_ok()).count();
    let all: Vec<String> = list.split(',').map(str::to_owned).collect();
    match all.iter().find(|text| text.split('.').count() != 2 || numbers(text) != 2) {
        None => Ok(all),
        Some(wrong) => Err(Usage(format!(
            "test: --kernel takes a list such as 5.10,6.1,6.12,7.2; {wrong:?} is no kernel"
        ))
        .into()),
    }
}

/// The kernel's release, once everything has passed on it.
fn on(cache: &Path, series: &str, programs: &[PathBuf]) -> Result<String> {
    let kernel = debian::kernel(cache, series)?;
    let world = world::make(cache, &kernel, programs, TESTS)?;
    machine::run(&kernel, &world, &cache.join(format!("{series}.log")))?;
    Ok(kernel.release)
}

/// The agent and the test binaries, as `cargo xtask test` builds them, too: nothing is built twice.
fn build() -> Result<Vec<PathBuf>> {
    sh::run(cargo::command("build").args(["--workspace", "--bins", "--locked"]))?;
    let mut cmd = cargo::command("test");
    cmd.args(["--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics"]);
    cmd.args(TESTS.iter().flat_map(|(name, _)| ["--test", name]));
    let out = cmd.stderr(Stdio::inherit()).output().with_context(|| sh::show(&cmd))?;
    if !out.status.success() {
        bail!("`{}` failed: {}", sh::show(&cmd), out.status);
    }
    let said = String::from_utf8_lossy(&out.stdout);
    let mut programs = vec![cargo::target_dir().join("debug/fivetuple")];
    for (name, _) in TESTS {
        programs.push(executable(&said, name).with_context(|| format!("cargo names no test binary {name}"))?);
    }
    Ok(programs)
}

/// Where cargo says that the test binary of this name is.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut paths = messages.filter_map(|message| {
        let ours = message["target"]["name"] == name && message["target"]["kind"][0] == "test";
        let path = message["executable"].as_str().filter(|_| ours)?;
        Some(PathBuf::from(path))
    });
    paths.next()
}

/// What a program of the distribution prints, with all of its errors.
fn said(program: &str, args: &[&str]) -> Result<String> {
    sh::stdout_of(Command::new(program).args(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_by_two_numbers() {
        assert_eq!(parse("5.10,6.1").unwrap(), ["5.10", "6.1"]);
        for wrong in ["", "6", "6.1,", "6.1.0", "6.x", "latest"] {
            assert!(parse(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }

    #[test]
    fn a_test_binary_is_found_by_its_name() {
        let messages = "{\"target\":{\"name\":\"parity\",\"kind\":[\"lib\"]},\"executable\":null}\nno JSON\n\
            {\"target\":{\"name\":\"parity\",\"kind\":[\"test\"]},\"executable\":\"/t/parity-1\"}\n";
        assert_eq!(executable(messages, "parity"), Some(PathBuf::from("/t/parity-1")));
        assert_eq!(executable(messages, "kernels"), None);
    }
}
