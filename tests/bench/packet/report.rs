//! The figures as a table, one by one, and as a plot.

use super::cases::SIZES;
use super::world::{PROGRAMS, Which};
use crate::figure::Figure;
use crate::plot::{self, Line};
use crate::sample::Sample;
use crate::table;

/// What was measured of one case, or of one step of it; samples by [`Which`].
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The case, and the step where it has several.
    pub name: String,
    /// Where its packets were seen.
    pub hook: &'static str,
    /// Behind the driver, if the packets were driven.
    pub driven: Option<[Sample; PROGRAMS]>,
    /// As if each program had run by itself: the driver's part taken off.
    pub net: [Sample; PROGRAMS],
}

impl Row {
    fn of(&self, which: Which) -> &Sample {
        &self.net[which as usize]
    }

    /// The programs that there are figures of.
    fn measured(&self) -> impl Iterator<Item = Which> {
        Which::ALL.into_iter().filter(|which| !self.of(*which).0.is_empty())
    }

    fn has_other(&self) -> bool {
        !self.of(Which::Against).0.is_empty()
    }

    fn ratio(&self) -> Sample {
        self.of(Which::Ours).ratio(self.of(Which::Floor))
    }

    /// By another build's, where there is one.
    fn by_other(&self) -> Sample {
        self.of(Which::Ours).ratio(self.of(Which::Against))
    }

    /// What we add to an empty program, by what the floor adds.
    fn added(&self) -> Sample {
        let over = |which| self.of(which).with(self.of(Which::Empty), |a, b| a - b);
        over(Which::Ours).ratio(&over(Which::Floor))
    }
}

fn number(n: Option<f64>, digits: usize) -> String {
    n.map_or_else(|| "-".to_owned(), |n| format!("{n:.digits$}"))
}

fn spread(sample: &Sample, digits: usize) -> String {
    sample.spread().map_or_else(|| "-".to_owned(), |(a, b)| format!("{a:.digits$}..{b:.digits$}"))
}

/// For people.
pub fn text(rows: &[Row]) -> String {
    let other = rows.iter().any(Row::has_other);
    let mut head = vec![
        "case",
        "at",
        "empty",
        "parse",
        "floor",
        "(spread)",
        "ours",
        "(spread)",
        "ratio",
        "(spread)",
        "added",
        "driven: empty",
        "floor",
        "ours",
    ];
    if other {
        head.extend(["by the other build", "(spread)"]);
    }
    let line = |row: &Row| {
        let ns = |which| number(row.of(which).median(), 1);
        let mut line = vec![row.name.clone(), row.hook.to_owned(), ns(Which::Empty), ns(Which::Parse)];
        for which in [Which::Floor, Which::Ours] {
            line.extend([ns(which), spread(row.of(which), 0)]);
        }
        line.extend([number(row.ratio().median(), 2), spread(&row.ratio(), 2)]);
        line.push(number(row.added().median(), 2));
        for which in [Which::Empty, Which::Floor, Which::Ours] {
            let driven = row.driven.as_ref();
            line.push(driven.map_or_else(String::new, |raw| number(raw[which as usize].median(), 1)));
        }
        if other {
            line.extend([number(row.by_other().median(), 3), spread(&row.by_other(), 3)]);
        }
        line
    };
    let rows: Vec<_> = rows.iter().map(line).collect();
    table::lines(&head, &rows)
}

/// One by one.
pub fn figures(rows: &[Row]) -> Vec<Figure> {
    let mut all = Vec::new();
    for row in rows {
        let name = |of: &str| format!("packet/{}/{}/{of}", row.name, row.hook);
        let floor = row.of(Which::Floor);
        for which in row.measured() {
            let baseline = (which != Which::Floor).then_some(floor);
            all.push(Figure::new(name(which.name()), "ns", row.of(which), baseline));
        }
        for which in row.measured() {
            if let Some(driven) = &row.driven {
                let baseline = (which != Which::Floor).then_some(&driven[Which::Floor as usize]);
                let name = name(&format!("{}/driven", which.name()));
                all.push(Figure::new(name, "ns", &driven[which as usize], baseline));
            }
        }
        all.push(Figure::new(name("added"), "of floor", &row.added(), None));
        if row.has_other() {
            all.push(Figure::new(name("ours/against"), "of the other build", &row.by_other(), None));
        }
    }
    all
}

/// Cost against number of flows.
pub fn plot(rows: &[Row]) -> String {
    let [few, many, million] = SIZES.map(f64::from);
    let marks = [(1.0, "1"), (few, "1 k"), (many, "64 k"), (million, "1 M")];
    let places =
        [(1.0, "ack"), (few, "ack, 1 k flows"), (many, "ack, 64 k flows"), (million, "ack, 1 M flows")];
    let mut lines = Vec::new();
    for (hook, dashed) in [("xdp", false), ("tc", true)] {
        for (which, colour) in
            [(Which::Ours, "#c0392b"), (Which::Floor, "#2c3e50"), (Which::Empty, "#95a5a6")]
        {
            let at = |name: &str| {
                let row = rows.iter().find(|row| row.name == name && row.hook == hook)?;
                row.of(which).median()
            };
            let points = places.iter().filter_map(|(n, name)| Some((*n, at(name)?))).collect();
            lines.push(Line { name: format!("{}, {hook}", which.name()), colour, dashed, points });
        }
    }
    plot::svg("An ACK of a random flow", "flows", "ns a packet", &marks, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let of = |ns: [f64; 2]| Sample(ns.to_vec());
        let net = [of([10.0, 20.0]), of([11.0, 21.0]), of([30.0, 40.0]), of([60.0, 60.0]), Sample::default()];
        Row { name: "ack".to_owned(), hook: "xdp", driven: Some(net.clone()), net }
    }

    #[test]
    fn ratios_are_to_the_floor() {
        assert_eq!(row().ratio(), Sample(vec![2.0, 1.5]));
        assert_eq!(row().added(), Sample(vec![2.5, 2.0]));
    }

    #[test]
    fn every_program_has_a_figure() {
        let names: Vec<_> = figures(&[row()]).into_iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names[3], "packet/ack/xdp/ours");
        assert_eq!(names[7], "packet/ack/xdp/ours/driven");
    }

    #[test]
    fn another_build_is_compared_where_there_is_one() {
        let mut row = row();
        assert!(!text(&[row.clone()]).contains("other build"));
        row.net[Which::Against as usize] = Sample(vec![30.0, 120.0]);
        assert!(text(&[row.clone()]).lines().last().unwrap().trim_end().ends_with("1.250  0.500..2.000"));
        let figures = figures(&[row]);
        let ratio = figures.iter().find(|figure| figure.name == "packet/ack/xdp/ours/against").unwrap();
        assert_eq!(ratio.value, Some(1.25));
    }

    #[test]
    fn the_table_has_the_medians() {
        let text = text(&[row()]);
        let words: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words[..9], ["ack", "xdp", "15.0", "16.0", "35.0", "30..40", "60.0", "60..60", "1.75"]);
    }

    #[test]
    fn the_plot_has_what_there_is() {
        let svg = plot(&[row()]);
        assert!(svg.contains("ours, xdp") && svg.contains("1 M"));
    }
}
