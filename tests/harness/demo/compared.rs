//! Truth beside what is said of it.

use std::fmt::Display;

use crate::report::figure::Figure;
use crate::report::table;

/// What was compared so far.
#[derive(Default)]
pub(super) struct Compared {
    rows: Vec<Vec<String>>,
    /// Numbers, one by one.
    pub figures: Vec<Figure>,
    /// What differs, a sentence each.
    pub wrong: Vec<String>,
}

impl Compared {
    /// A number of payments: `what` they are, where `fivetuple` was `asked` for them, the truth and what it said.
    pub fn number(&mut self, figure: &str, what: &str, asked: &str, truth: usize, said: f64) {
        let truth = truth as f64;
        self.figures.push(Figure::count(figure, "payments", said, Some(truth)));
        self.figures.push(Figure::count(format!("{figure}_truth"), "payments", truth, None));
        self.row(what, asked, &truth, &said);
    }

    /// Something else than a number.
    pub fn row<T: Display + PartialEq>(&mut self, what: &str, asked: &str, truth: &T, said: &T) {
        self.rows.push(vec![what.to_owned(), asked.to_owned(), truth.to_string(), said.to_string()]);
        self.check(what, truth, said);
    }

    /// Without a row of its own.
    pub fn check<T: Display + PartialEq>(&mut self, what: &str, truth: &T, said: &T) {
        if truth != said {
            self.wrong.push(format!("{what}: fivetuple says {said}, the truth is {truth}"));
        }
    }

    /// The rows for people.
    pub fn table(&self) -> String {
        table::lines(&["WHAT", "FIVETUPLE, ASKED BY", "TRUTH", "FIVETUPLE"], &self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said() {
        let mut compared = Compared::default();
        compared.number("a/resets", "resets", "metrics", 4, 4.0);
        assert!(compared.wrong.is_empty());
        compared.number("a/lost", "lost payments", "metrics", 4, 3.0);
        compared.row("place", "locate", &"here", &"there");
        assert_eq!(
            compared.wrong,
            [
                "lost payments: fivetuple says 3, the truth is 4",
                "place: fivetuple says there, the truth is here"
            ]
        );
        assert_eq!(compared.figures[2].ratio, Some(0.75));
        assert!(compared.table().ends_with("place          locate                here      there\n"));
    }
}
