//! Which of the questions tell failed connections from good ones, in order, and how they stand to each other.

use super::{
    feature::{FEATURES, Value},
    predicate::{Predicate, Questions},
    report::{Candidate, Standing},
    statistics::{Exact, Rate, Table, holm, tarone},
};

/// Candidates that are shown and compared with each other.
const SHOWN: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub struct Ranking {
    /// By how many tests a level must be divided.
    pub divisor: usize,
    /// Tests that the values are corrected for.
    pub tests: usize,
    /// The strongest first.
    pub candidates: Vec<Candidate>,
    /// Weaker candidates that were left out.
    pub left_out: usize,
    /// Features that a claim was made on.
    pub differing: Vec<usize>,
    /// Features of which no question could be tested.
    pub rare: Vec<usize>,
}

/// A question that failed and good connections answer differently, turned so that yes goes with failing.
struct Telling {
    predicate: Predicate,
    table: Table,
    p: f64,
    p_corrected: f64,
    strength: f64,
    /// Its feature's questions, of which it is the best.
    tries: usize,
}

/// Ranks the questions to connections of which `failed` says which failed. Where nothing is the matter, anything at all
/// is claimed with a probability of at most `level`; `sections` such rankings share it.
pub fn rank(questions: Questions, failed: &[bool], level: f64, sections: usize) -> Ranking {
    let exact = Exact::up_to(failed.len());
    let level = level / sections as f64;
    let known = |answers: &[Option<bool>]| {
        Table::of(answers.iter().zip(failed).filter_map(|(has, failed)| Some(((*has)?, *failed))))
    };
    let tables: Vec<Table> = questions.predicates.iter().map(|p| known(&p.answers)).collect();
    let attainable: Vec<f64> = tables.iter().map(|table| exact.attainable(table)).collect();
    let divisor = tarone(&attainable, level);
    // Chosen by the margins alone, on which the tests are conditional: so the rest need no correction.
    let testable: Vec<usize> =
        (0..tables.len()).filter(|i| attainable[*i] <= level / divisor as f64).collect();
    let values: Vec<f64> = testable.iter().map(|i| exact.fisher(&tables[*i])).collect();
    let corrected = holm(&values);
    let features = 0..FEATURES.len();
    let asked = |feature: usize| questions.predicates.iter().filter(move |p| p.is_of(feature)).count();
    let tries: Vec<usize> = features.clone().map(asked).collect();
    let tested = |feature: usize| testable.iter().any(|i| questions.predicates[*i].is_of(feature));
    let rare = features.filter(|f| tries[*f] > 0 && !tested(*f)).collect();

    let mut predicates: Vec<Option<Predicate>> = questions.predicates.into_iter().map(Some).collect();
    let mut telling = Vec::new();
    for ((place, p), corrected) in testable.iter().zip(&values).zip(&corrected) {
        let p_corrected = corrected * sections as f64;
        let Some(predicate) = (*corrected <= level).then(|| predicates[*place].take()).flatten() else {
            continue;
        };
        let table = tables[*place];
        let turn = table.with.share() < table.without.share();
        let (predicate, table) =
            if turn { (predicate.flipped(), table.flipped()) } else { (predicate, table) };
        // What is unknown is not explained by it.
        let all = predicate.answers.iter().zip(failed).map(|(has, failed)| (*has == Some(true), *failed));
        let strength = Table::of(all).phi();
        let tries = predicate.features.iter().map(|f| tries[*f]).max().unwrap_or(1);
        telling.push(Telling { table, p: *p, p_corrected, strength, tries, predicate });
    }
    // Stable: of equals the one that stands first in the features' table comes first.
    telling.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    let differing = telling.iter().flat_map(|t| t.predicate.features.clone()).collect();
    keep_best_cuts(&mut telling);
    let left_out = telling.len().saturating_sub(SHOWN);
    telling.truncate(SHOWN);
    let standings = standings(&telling, failed, &exact, level);
    let all_failed = failed.iter().filter(|failed| **failed).count() as u64;
    let candidates = telling.into_iter().zip(standings).map(|(t, standing)| t.shown(standing, all_failed));
    Ranking { divisor, tests: testable.len(), candidates: candidates.collect(), left_out, differing, rare }
}

/// Of the places at which a number is cut, only the best one is a candidate.
fn keep_best_cuts(telling: &mut Vec<Telling>) {
    let mut cut = Vec::new();
    telling.retain_mut(|t| {
        t.predicate.names.retain(|name| {
            let number = matches!(FEATURES[name.feature].value, Value::AtLeast(..) | Value::AtMost(..));
            if number && cut.contains(&name.feature) {
                return false;
            }
            cut.extend(number.then_some(name.feature));
            true
        });
        !t.predicate.names.is_empty()
    });
}

impl Telling {
    fn shown(self, standing: Standing, all_failed: u64) -> Candidate {
        let Table { with, without } = self.table;
        let mut names = self.predicate.names.into_iter().map(|name| name.holds);
        Candidate {
            what: names.next().unwrap_or_default(),
            also: names.collect(),
            with,
            without,
            difference: self.table.difference(),
            ratio: (without.failed > 0).then(|| with.share() / without.share()),
            p: self.p,
            p_corrected: self.p_corrected,
            covers: Rate { failed: with.failed, all: all_failed }.share(),
            strength: self.strength,
            standing,
        }
    }
}

/// Whether `one` still goes with failing among connections that are alike in `other`.
fn tells_beside(one: &Telling, other: &Telling, failed: &[bool], exact: &Exact, level: f64) -> bool {
    let answers = one.predicate.answers.iter().zip(&other.predicate.answers).zip(failed);
    let both: Vec<_> = answers.filter_map(|((a, b), failed)| Some(((*a)?, (*b)?, *failed))).collect();
    let stratum =
        |yes: bool| Table::of(both.iter().filter(|(_, b, _)| *b == yes).map(|(a, _, failed)| (*a, *failed)));
    // The best of several tries passes more easily.
    exact.stratified(&[stratum(true), stratum(false)]) * one.tries as f64 <= level
}

/// Connections that have one of the two.
fn apart(one: &Telling, other: &Telling) -> u64 {
    let answers = one.predicate.answers.iter().zip(&other.predicate.answers);
    answers.filter(|(a, b)| matches!((a, b), (Some(a), Some(b)) if a != b)).count() as u64
}

fn standings(telling: &[Telling], failed: &[bool], exact: &Exact, level: f64) -> Vec<Standing> {
    let n = telling.len();
    // Each must hold its own against all others.
    let level = level / n.saturating_sub(1).max(1) as f64;
    let tells: Vec<Vec<bool>> = (0..n)
        .map(|i| {
            let beside = |j| i != j && tells_beside(&telling[i], &telling[j], failed, exact, level);
            (0..n).map(beside).collect()
        })
        .collect();
    let beats = |i: usize, j: usize| tells[i][j] && !tells[j][i];
    let beaten = |j: usize| (0..n).any(|i| beats(i, j));
    // Of a circle the strongest stands.
    let first = (0..n).find(|j| !beaten(*j)).unwrap_or(0);
    let stands = |j: usize| j == first || !beaten(j);
    let place = |j: usize| {
        let apart = |i: usize| apart(&telling[i], &telling[j]);
        if j == first {
            return Standing::First;
        }
        if !stands(j) {
            let by = (0..n).filter(|i| beats(*i, j)).min_by_key(|i| (!stands(*i), *i)).unwrap_or(first);
            return Standing::Explained { by, apart: apart(by) };
        }
        let rival = std::iter::once(first).chain(0..j).find(|i| stands(*i) && !tells[*i][j] && !tells[j][*i]);
        match rival {
            Some(with) => Standing::Together { with, apart: apart(with) },
            None => Standing::Further,
        }
    };
    (0..n).map(place).collect()
}
