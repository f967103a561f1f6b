//! Every capture given to fivetuple and to tshark, and what both say compared with the reference.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use xtask::sh;

use super::{
    compare::{Disagreement, compare},
    folder::{Case, Kind},
    line::{Lines, Packet},
    oracle::Oracle,
    place::compare_by_place,
    sum::{Figures, Sum},
};

/// The tool under judgement.
pub struct Replay {
    /// The agent's program.
    pub binary: PathBuf,
}

impl Replay {
    /// What fivetuple says of a capture file.
    fn ask(&self, capture: &Path) -> Result<Lines> {
        let mut cmd = Command::new(&self.binary);
        cmd.arg("replay").arg(capture).args(["--output", "jsonl"]);
        Lines::parse(&sh::stdout_of(&mut cmd)?).with_context(|| format!("what `{}` printed", sh::show(&cmd)))
    }
}

/// What was found in one capture.
pub struct Judged {
    /// Its path below the folder.
    pub name: String,
    /// Whose word is taken.
    pub kind: Kind,
    /// fivetuple's figures.
    pub ours: Sum,
    /// tshark's figures, where it is not the reference.
    pub tshark: Option<Sum>,
    /// Where fivetuple and the reference differ, with what fivetuple says of the packet.
    pub disagreements: Vec<(Disagreement, Packet)>,
}

/// What became of all captures.
#[derive(Default)]
pub struct Verdict {
    /// Those that were judged.
    pub judged: Vec<Judged>,
    /// Those of which fivetuple did not say all, as whose word is taken and why: as in the benchmark, they count nowhere.
    pub failed: Vec<(Kind, String)>,
}

/// Judges every case.
pub fn judge(cases: &[Case], replay: &Replay, oracle: &Oracle) -> Result<Verdict> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, case)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(at).map(|case| (at, case))
                } {
                    let judged = judge_one(case, replay, oracle).with_context(|| case.name.clone());
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, judged));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    let mut verdict = Verdict::default();
    for (at, result) in results {
        match result? {
            Ok(judged) => verdict.judged.push(judged),
            Err(why) => verdict.failed.push((cases[at].kind, format!("{}: {why:#}", cases[at].name))),
        }
    }
    Ok(verdict)
}

/// The inner error is fivetuple's, the outer one anybody else's.
fn judge_one(case: &Case, replay: &Replay, oracle: &Oracle) -> Result<Result<Judged>> {
    let reference = Lines::read(&case.reference)?;
    let candidate = match replay.ask(&case.capture) {
        Ok(candidate) => candidate,
        Err(why) => return Ok(Err(why)),
    };
    let (ours, disagreements) = figures(case, &reference, &candidate);
    let tshark = if case.kind == Kind::Public {
        None
    } else {
        Some(figures(case, &reference, &oracle.ask(&case.capture)?).0)
    };
    let said = |frame| candidate.packets.get(&frame).cloned().unwrap_or_default();
    let disagreements = disagreements.into_iter().map(|found| (found, said(found.frame))).collect();
    Ok(Ok(Judged { name: case.name.clone(), kind: case.kind, ours, tshark, disagreements }))
}

/// One tool's figures for one capture.
pub fn figures(case: &Case, reference: &Lines, candidate: &Lines) -> (Sum, Vec<Disagreement>) {
    let found = compare(reference, candidate);
    let places = match case.kind {
        Kind::Truth => compare_by_place(&case.name, reference, candidate),
        _ => Vec::new(),
    };
    let mut sum = Sum::of(reference, candidate, &found, places);
    if case.kind != Kind::Truth {
        // Nobody but the kernels knows whether a host sent it.
        sum.resets.origin = [0; 2];
    }
    (sum, found.disagreements)
}

/// The sum of all captures.
pub fn sum(verdict: &Verdict) -> Figures {
    let mut figures = Figures::new();
    for capture in &verdict.judged {
        let both = figures.entry(capture.kind).or_default();
        both.files += 1;
        both.ours.add(&capture.ours);
        if let Some(tshark) = &capture.tshark {
            both.tshark.get_or_insert_default().add(tshark);
        }
    }
    figures
}
