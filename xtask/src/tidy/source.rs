//! A source file as the rules see it: which lines are code, which are comments, which are unit tests.
//!
//! This is no parser. It relies on rustfmt, which the `fmt` stage enforces, for where blocks end.

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing on it.
    Blank,
    /// A comment and nothing else.
    Comment,
    /// Code of the file's `#[cfg(test)] mod`.
    Test,
    /// Any other code.
    Code,
}

/// One line.
pub struct Line<'a> {
    /// As it stands in the file.
    pub text: &'a str,
    /// What it is.
    pub kind: Kind,
}

impl<'a> Line<'a> {
    /// The line without its comment. A `//` inside a string counts as one, which hides the rest of that line.
    pub fn code(&self) -> &'a str {
        match self.kind {
            Kind::Blank | Kind::Comment => "",
            Kind::Test | Kind::Code => self.text.split("//").next().unwrap_or_default(),
        }
    }
}

/// One file.
pub struct Source<'a> {
    /// Its path below the workspace's root.
    pub name: String,
    /// Its lines, in order.
    pub lines: Vec<Line<'a>>,
}

impl<'a> Source<'a> {
    /// Sorts the lines of a file.
    pub fn new(name: String, text: &'a str) -> Self {
        let mut lines = Vec::new();
        let (mut in_comment, mut in_test) = (false, None::<String>);
        let mut previous = "";
        for text in text.lines() {
            let trimmed = text.trim();
            if previous == "#[cfg(test)]" && trimmed.starts_with("mod ") && trimmed.ends_with('{') {
                let indent = &text[..text.len() - text.trim_start().len()];
                in_test = Some(format!("{indent}}}"));
            }
            let opens = trimmed.starts_with("/*");
            let kind = if trimmed.is_empty() {
                Kind::Blank
            } else if in_comment || opens || trimmed.starts_with("//") {
                Kind::Comment
            } else if in_test.is_some() || trimmed == "#[cfg(test)]" {
                Kind::Test
            } else {
                Kind::Code
            };
            in_comment = (in_comment || opens) && !trimmed.ends_with("*/");
            if in_test.as_deref() == Some(text) {
                in_test = None;
            }
            lines.push(Line { text, kind });
            previous = trimmed;
        }
        Self { name, lines }
    }

    /// How many lines are code and not tests.
    pub fn code_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.kind == Kind::Code).count()
    }

    /// The lines with their numbers, as an editor counts them.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line<'a>)> {
        self.lines.iter().enumerate().map(|(i, line)| (i + 1, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let text = "//! Doc.\n\nfn f() {} // why\n/* one\ntwo */\n#[cfg(test)]\nmod tests {\n    fn t() {\n    }\n}\nfn g() {}\n";
        let source = Source::new("a.rs".to_owned(), text);
        let kinds: Vec<Kind> = source.lines.iter().map(|l| l.kind).collect();
        use Kind::{Blank, Code, Comment, Test};
        assert_eq!(kinds, [Comment, Blank, Code, Comment, Comment, Test, Test, Test, Test, Test, Code]);
        assert_eq!(source.code_lines(), 2);
        assert_eq!(source.lines[2].code(), "fn f() {} ");
    }

    #[test]
    fn a_helper_for_tests_only_is_not_the_end_of_code() {
        let source = Source::new("a.rs".to_owned(), "#[cfg(test)]\nuse x;\nfn f() {}\n");
        assert_eq!(source.lines[2].kind, Kind::Code);
    }
}
