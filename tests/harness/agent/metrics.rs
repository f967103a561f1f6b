//! What `/metrics` says, as samples: Prometheus text and OpenMetrics, exemplars and timestamps left aside.

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// All samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: BTreeMap<(String, Labels), f64>,
    types: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads the text. A line that cannot be read, and a sample that comes twice, are errors.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# TYPE ") {
                let (name, kind) = comment.split_once(' ').ok_or_else(|| format!("no type in `{line}`"))?;
                metrics.types.insert(name.to_owned(), kind.to_owned());
            }
            if line.starts_with('#') {
                continue;
            }
            let (key, value) = sample(line).ok_or_else(|| format!("cannot read `{line}`"))?;
            if metrics.samples.insert(key, value).is_some() {
                return Err(format!("this sample comes twice: `{line}`"));
            }
        }
        Ok(metrics)
    }

    /// The sum of all samples of that name whose labels contain these. 0 when there are none: use [`Metrics::count`] to
    /// tell that apart.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Not `sum()`: that of nothing is -0.
        self.matching(name, labels).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// How many samples of that name have labels that contain these.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.matching(name, labels).count()
    }

    /// The one sample of that name whose labels contain these.
    ///
    /// # Panics
    /// When there is none or more than one.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<_> = self.matching(name, labels).collect();
        match found.as_slice() {
            [(_, value)] => *value,
            [] => panic!("no sample {name} with {labels:?}; there are {:?}", self.names()),
            many => panic!("{} samples {name} with {labels:?}: {many:?}", many.len()),
        }
    }

    /// The samples of that name whose labels contain these: labels and value.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        self.samples.iter().filter_map(move |((of, has), value)| {
            let fits =
                of == name && labels.iter().all(|(key, value)| has.get(*key).is_some_and(|has| has == value));
            fits.then_some((has, *value))
        })
    }

    /// The names of all samples, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.samples.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names
    }

    /// The type of a family, as its `# TYPE` line has it.
    pub fn type_of(&self, family: &str) -> Option<&str> {
        self.types.get(family).map(String::as_str)
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What each sample has grown by since then; new ones by all they have.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = self
            .samples
            .iter()
            .map(|(key, now)| (key.clone(), now - before.samples.get(key).unwrap_or(&0.0)));
        Self { samples: grown.collect(), types: self.types.clone() }
    }
}

/// `name{key="value",…} 1.5`, and whatever follows the value.
fn sample(line: &str) -> Option<((String, Labels), f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(((name.to_owned(), labels), value))
}

/// The text up to the closing quote, its escapes resolved, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}
