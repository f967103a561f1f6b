//! How many instructions the verifier looked at, per program and kernel, held to what they were.
//!
//! A program may take a million; each kernel's verifier prunes in its own way, and the one that comes closest decides
//! whether the agent starts there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aya::programs::loaded_programs;
use nix::unistd::Pid;

use crate::release::Release;

/// By program.
pub type Counts = BTreeMap<String, u32>;

/// What they were, by kernel.
const KNOWN: &str = include_str!("verified.json");
/// More than this is too close to the kernel's million: another version of its verifier may need twice as many.
const MOST: u32 = 500_000;

/// Of the programs that this process holds; empty before [`Release::TELLS`].
pub fn of(process: Pid) -> Counts {
    let held = held(process);
    assert!(!held.is_empty(), "process {process} holds no programs");
    let programs = loaded_programs().filter_map(Result::ok).filter(|program| held.contains(&program.id()));
    let counts = programs.filter_map(|program| {
        Some((program.name_as_str().unwrap_or_default().to_owned(), program.verified_instruction_count()?))
    });
    counts.collect()
}

/// Programs by their numbers, as the process's open files have them.
fn held(process: Pid) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo")).expect("the process runs");
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let number = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        line.and_then(|number| number.trim().parse().ok())
    };
    texts.filter_map(number).collect()
}

/// Prints what was counted, and fails where it has grown too far.
///
/// # Panics
/// With what grew, and what to do.
#[track_caller]
pub fn judge(release: Release, counts: &Counts) {
    let known: BTreeMap<String, Counts> =
        serde_json::from_str(KNOWN).expect("verified.json is written by hand");
    let now = serde_json::to_string(counts).expect("numbers and names");
    if release < Release::TELLS {
        println!("verified: Linux {release} does not tell; {} and later do", Release::TELLS);
        return;
    }
    println!("verified: \"{release}\": {now}");
    let wrong = known.get(&release.to_string()).map(|known| grown(known, counts)).unwrap_or_default();
    let wrong: Vec<String> = wrong.into_iter().chain(beyond(counts)).collect();
    assert!(
        wrong.is_empty(),
        "Linux {release}: {}. Find what became dearer (a loop, a branch before one, a number whose bounds the verifier no \
         longer knows) and make it cheaper. If it has to be, and stays below {MOST}, put this into \
         tests/kernels/verified.json, with those of the other kernels (cargo xtask test --kernel …): \"{release}\": {now}",
        wrong.join("; ")
    );
}

/// Programs that take more than a fifth more than they did, or that are no longer there.
fn grown(known: &Counts, now: &Counts) -> Vec<String> {
    let judge = |(program, before): (&String, &u32)| match now.get(program) {
        Some(now) if u64::from(*now) * 5 <= u64::from(*before) * 6 => None,
        Some(now) => Some(format!(
            "{program} takes {now} verified instructions, more than 1.2 times the {before} it took"
        )),
        None => Some(format!("{program} took {before} verified instructions and is not loaded")),
    };
    known.iter().filter_map(judge).collect()
}

fn beyond(now: &Counts) -> impl Iterator<Item = String> {
    let over = now.iter().filter(|(_, count)| **count > MOST);
    over.map(|(program, count)| format!("{program} takes {count} verified instructions, more than {MOST}"))
}

#[test]
fn a_fifth_more_is_borne_and_no_more() {
    let counts = |n| Counts::from([("ft_tc_in".to_owned(), n)]);
    assert!(grown(&counts(100), &counts(120)).is_empty() && grown(&counts(100), &counts(50)).is_empty());
    for now in [counts(121), Counts::new()] {
        assert_eq!(grown(&counts(100), &now).len(), 1, "{now:?}");
    }
    assert_eq!((beyond(&counts(MOST)).count(), beyond(&counts(MOST + 1)).count()), (0, 1));
}
