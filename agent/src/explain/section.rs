//! One comparison: connections of one point, or of paths beside each other.

use super::{
    feature::FEATURES,
    population::{Group, failed},
    predicate::Questions,
    rank::rank,
    report::{Candidate, Finding, Looked, Population, Section, Standing, Verdict},
    sentence::{self, Case},
    statistics::Exact,
};
use crate::connection::Connection;

/// Compares a group; `sections` comparisons share the `level`.
pub fn section(group: &Group<'_>, level: f64, sections: usize) -> Section {
    let population = Population::of(&group.connections);
    let (compared, failed): (Vec<&Connection>, Vec<bool>) =
        group.connections.iter().filter_map(|c| Some((*c, failed(c)?))).unzip();
    let questions = Questions::to(&compared);
    let (same, unknown) = (questions.same.clone(), questions.unknown.clone());
    let ranking = rank(questions, &failed, level, sections);
    let level = level / sections as f64 / ranking.divisor as f64;
    let verdict = verdict(&population, &ranking.candidates, level);
    let case = Case {
        points: &group.points,
        verdict,
        population: &population,
        candidates: &ranking.candidates,
        level,
    };
    let answer = sentence::answer(&case);
    let finding = |feature: usize| match feature {
        f if ranking.differing.contains(&f) => Finding::Differs,
        f if ranking.rare.contains(&f) => Finding::TooRare,
        f if same.contains(&f) => Finding::Same,
        f if unknown.contains(&f) => Finding::Unknown,
        _ => Finding::NoDifference,
    };
    let features = FEATURES.iter().enumerate();
    let features = features.map(|(i, f)| Looked { feature: f.name.to_owned(), finding: finding(i) });
    Section {
        points: group.points.clone(),
        verdict,
        answer,
        population,
        tests: ranking.tests,
        candidates: ranking.candidates,
        left_out: ranking.left_out,
        features: features.collect(),
    }
}

fn verdict(population: &Population, candidates: &[Candidate], level: f64) -> Verdict {
    let Population { failed, good, .. } = *population;
    match (failed, good) {
        (0, 0) => return Verdict::NoConnections,
        (0, _) => return Verdict::NoneFailed,
        (_, 0) => return Verdict::AllFailed,
        _ => {}
    }
    let Some(first) = candidates.iter().position(|c| c.standing == Standing::First) else {
        let perfect = Exact::up_to((failed + good) as usize).pure(failed, failed, failed + good);
        return if perfect > level { Verdict::NotEnoughData } else { Verdict::Nothing };
    };
    let has_rival = |c: &Candidate| matches!(c.standing, Standing::Together { with, .. } if with == first);
    if !candidates[first].also.is_empty() || candidates.iter().any(has_rival) {
        Verdict::Together
    } else {
        Verdict::SetApart
    }
}
