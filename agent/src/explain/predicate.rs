//! Candidate causes: each feature as questions that each connection answers with yes or no.
//!
//! The questions are chosen without a look at which connections failed: only then the number of them is all that the
//! statistics have to correct for.

use super::feature::{FEATURES, Feature, REORDERED, SEVERAL, SEVERAL_REORDERED, Value};
use crate::connection::Connection;
use std::collections::{BTreeMap, HashMap};

/// Places at which a number is cut in two, evenly among the connections.
const CUTS: usize = 24;
/// Words that are asked for, the most frequent ones.
const WORDS: usize = 32;

/// A question, by all its names.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// The features that ask it, by their places in [`FEATURES`].
    pub features: Vec<usize>,
    /// What it is called: more than one where several questions have the same answers.
    pub names: Vec<Name>,
    /// The answers, in the order of the connections; none where it is not known.
    pub answers: Vec<Option<bool>>,
}

/// What a question is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// Its feature's place in [`FEATURES`].
    pub feature: usize,
    /// When the answer is yes.
    pub holds: String,
    /// When it is no.
    pub fails: String,
}

impl Name {
    fn flipped(self) -> Self {
        Self { holds: self.fails, fails: self.holds, ..self }
    }
}

impl Predicate {
    /// The opposite question.
    pub fn flipped(self) -> Self {
        Self {
            features: self.features,
            names: self.names.into_iter().map(Name::flipped).collect(),
            answers: self.answers.into_iter().map(|answer| answer.map(|yes| !yes)).collect(),
        }
    }

    /// Whether a feature asks it.
    pub fn is_of(&self, feature: usize) -> bool {
        self.features.contains(&feature)
    }
}

/// What the connections can be asked.
#[derive(Debug, Default)]
pub struct Questions {
    /// The questions that some answer with yes and some with no, no two of them with the same answers.
    pub predicates: Vec<Predicate>,
    /// Features that have one and the same value wherever it is known.
    pub same: Vec<usize>,
    /// Features that have no known value.
    pub unknown: Vec<usize>,
}

impl Questions {
    /// For these connections.
    pub fn to(connections: &[&Connection]) -> Self {
        let mut questions = Self::default();
        let mut known: HashMap<Vec<Option<bool>>, usize> = HashMap::new();
        for (number, feature) in FEATURES.iter().enumerate() {
            let (is_known, asked) = ask(number, feature, connections);
            let mut differs = false;
            for predicate in asked {
                let is = |yes| predicate.answers.contains(&Some(yes));
                if !(is(true) && is(false)) {
                    continue;
                }
                differs = true;
                // A question and its opposite are one: the first connection says yes to it.
                let first = predicate.answers.iter().flatten().next();
                let predicate = if first == Some(&false) { predicate.flipped() } else { predicate };
                match known.get(&predicate.answers) {
                    Some(place) => {
                        let one = &mut questions.predicates[*place];
                        one.features.push(number);
                        one.names.extend(predicate.names);
                    }
                    None => {
                        known.insert(predicate.answers.clone(), questions.predicates.len());
                        questions.predicates.push(predicate);
                    }
                }
            }
            match (differs, is_known) {
                (true, _) => {}
                (false, true) => questions.same.push(number),
                (false, false) => questions.unknown.push(number),
            }
        }
        questions.predicates.iter_mut().for_each(name_by_parts);
        questions
    }
}

/// Reordering takes several segments, so that where they are the same both are said at once. Where having several
/// segments comes to the same as well, which of the two matters is open, and both are named.
fn name_by_parts(predicate: &mut Predicate) {
    let is = |name: &Name, feature: &str| FEATURES[name.feature].name == feature;
    let has = |predicate: &Predicate, feature: &str| predicate.names.iter().any(|name| is(name, feature));
    if !has(predicate, SEVERAL_REORDERED) || !has(predicate, REORDERED) {
        return;
    }
    let needless = if has(predicate, SEVERAL) { SEVERAL_REORDERED } else { REORDERED };
    predicate.names.retain(|name| !is(name, needless));
}

/// Whether a feature is known of any connection, and the questions that it gives.
fn ask(number: usize, feature: &Feature, connections: &[&Connection]) -> (bool, Vec<Predicate>) {
    let named = |value: &str, answers: Vec<Option<bool>>| {
        let phrase = |text: &str| text.replace("{}", value);
        let name = Name { feature: number, holds: phrase(feature.holds), fails: phrase(feature.fails) };
        Predicate { features: vec![number], names: vec![name], answers }
    };
    let numbers =
        |get: fn(&Connection) -> Option<f64>| connections.iter().map(|c| get(c)).collect::<Vec<_>>();
    match feature.value {
        Value::Fact(get) => {
            let answers: Vec<Option<bool>> = connections.iter().map(|c| get(c)).collect();
            (answers.iter().any(Option::is_some), vec![named("", answers)])
        }
        Value::Word(get) => {
            let words: Vec<Option<String>> = connections.iter().map(|c| get(c)).collect();
            let answers =
                |word: &str| words.iter().map(|w| w.as_ref().map(|w| w == word)).collect::<Vec<_>>();
            let asked = match frequent(&words)[..] {
                // Each is the other's opposite: one question, which names both.
                [one, other] => {
                    let mut both = named(one, answers(one));
                    both.names[0].fails = feature.holds.replace("{}", other);
                    vec![both]
                }
                ref words => words.iter().map(|word| named(word, answers(word))).collect(),
            };
            (!asked.is_empty(), asked)
        }
        Value::AtLeast(get, written) => {
            let numbers = numbers(get);
            let answers = |cut: f64| numbers.iter().map(|n| n.map(|n| n >= cut)).collect();
            let cuts = cuts(&numbers).into_iter().map(|(_, above)| above);
            let asked = cuts.map(|cut| named(&written(cut), answers(cut))).collect();
            (numbers.iter().any(Option::is_some), asked)
        }
        Value::AtMost(get, written) => {
            let numbers = numbers(get);
            let answers = |cut: f64| numbers.iter().map(|n| n.map(|n| n <= cut)).collect();
            let cuts = cuts(&numbers).into_iter().map(|(below, _)| below);
            let asked = cuts.map(|cut| named(&written(cut), answers(cut))).collect();
            (numbers.iter().any(Option::is_some), asked)
        }
    }
}

/// The most frequent words.
fn frequent(words: &[Option<String>]) -> Vec<&str> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    words.iter().flatten().for_each(|word| *count.entry(word).or_default() += 1);
    let mut words: Vec<_> = count.into_iter().collect();
    words.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    words.into_iter().take(WORDS).map(|(word, _)| word).collect()
}

/// Where numbers are cut in two: each place as the number below and the number above it. All places of finite numbers
/// where they are few, else those that part the numbers evenly.
fn cuts(numbers: &[Option<f64>]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = numbers.iter().flatten().copied().filter(|n| n.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let mut places: Vec<usize> = (1..sorted.len()).filter(|i| sorted[i - 1] < sorted[*i]).collect();
    if places.len() > CUTS {
        let part = |i: usize| sorted.len() * i / (CUTS + 1);
        let mut even: Vec<usize> = (1..=CUTS)
            .filter_map(|i| places.get(places.partition_point(|place| *place < part(i))).copied())
            .collect();
        even.dedup();
        places = even;
    }
    places.into_iter().map(|i| (sorted[i - 1], sorted[i])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Request, tests::answered};
    use agent_ebpf::anomaly::Anomaly;

    fn request(bytes: u32, segments: u16, reordered: bool) -> Connection {
        let mut c = answered("inside", 1_700_000_000_000_000_000);
        c.request = Some(Request { bytes, segments, pending: false });
        if reordered {
            c.from_client.anomalies.insert(Anomaly::OutOfOrder.name().to_owned(), 2);
        }
        c
    }

    fn named(connections: &[Connection]) -> Vec<Vec<String>> {
        let questions = Questions::to(&connections.iter().collect::<Vec<_>>());
        let names = questions.predicates.iter();
        names.map(|p| p.names.iter().map(|n| n.holds.clone()).collect()).collect()
    }

    #[test]
    fn questions_with_the_same_answers_are_one() {
        let all = [request(800, 1, false), request(9_000, 7, true), request(10_000, 7, true)];
        assert_eq!(
            named(&all),
            [
                // What the first connection answers with yes.
                vec!["request in one segment", "client's segments in order", "request of less than 9000 B"],
                vec!["request of less than 10000 B"],
            ]
        );
        let all = [request(9_000, 7, true), request(9_000, 7, false), request(9_000, 1, false)];
        assert_eq!(
            named(&all),
            [vec!["request in several segments, reordered"], vec!["request in several segments"]],
            "reordering takes several segments"
        );
    }

    #[test]
    fn what_does_not_differ_is_no_question() {
        let all = [request(800, 1, false), request(800, 1, false)];
        let questions = Questions::to(&all.iter().collect::<Vec<_>>());
        assert_eq!(questions.predicates, []);
        let names = |numbers: &[usize]| numbers.iter().map(|n| FEATURES[*n].name).collect::<Vec<_>>();
        assert!(names(&questions.same).contains(&"client's TTL"), "{:?}", names(&questions.same));
        assert_eq!(names(&questions.unknown), ["reuse answer", "HTTP method", "HTTP path"]);
    }

    #[test]
    fn numbers_are_cut_evenly() {
        let few = [Some(3.0), None, Some(1.0), Some(3.0), Some(f64::INFINITY)];
        assert_eq!(cuts(&few), [(1.0, 3.0)]);
        let many: Vec<_> = (0..1_000).map(|n| Some(f64::from(n))).collect();
        let places = cuts(&many);
        assert_eq!((places.len(), places[0]), (CUTS, (39.0, 40.0)));
        let heap: Vec<_> = (0..1_000).map(|n| Some(f64::from(n.max(900)))).collect();
        assert!(cuts(&heap).len() < CUTS);
    }

    #[test]
    fn of_two_words_one_is_asked_for() {
        let mut all = vec![request(800, 1, false), request(800, 1, false)];
        all[1].from_client.ttl = Some(63);
        assert_eq!(named(&all), [["client's TTL 64 here"]]);
    }
}
