//! The house rules, one function each.

use super::source::{Kind, Source};

/// A line's number and what is wrong with it.
pub type Finding = (usize, String);

/// Every rule.
pub const RULES: &[fn(&Source<'_>) -> Vec<Finding>] =
    &[module_doc, length, leftovers, ignored_tests, dead_code, sleeping];

/// Code lines in a file beyond which it is two files.
const HARD_LIMIT: usize = 500;
/// Code lines in a file beyond which a reader starts to scroll.
const SOFT_LIMIT: usize = 300;

/// What is worth a word but breaks no rule.
pub fn note(source: &Source<'_>) -> Option<String> {
    let lines = source.code_lines();
    (SOFT_LIMIT < lines && lines <= HARD_LIMIT)
        .then(|| format!("{lines} lines of code; {SOFT_LIMIT} read better"))
}

fn module_doc(source: &Source<'_>) -> Vec<Finding> {
    let first = source.numbered().find(|(_, line)| line.kind != Kind::Blank);
    match first {
        Some((_, line)) if line.text.starts_with("//!") => Vec::new(),
        found => {
            vec![(found.map_or(1, |(at, _)| at), "begin with a `//!` doc: what is this file for?".to_owned())]
        }
    }
}

fn length(source: &Source<'_>) -> Vec<Finding> {
    let over = source.numbered().filter(|(_, line)| line.kind == Kind::Code).nth(HARD_LIMIT);
    let reason =
        || format!("{} lines of code; the limit is {HARD_LIMIT}: split the file", source.code_lines());
    over.map(|(at, _)| (at, reason())).into_iter().collect()
}

/// Marks of unfinished work. Joined here, so that this file is not a finding itself.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("dbg", "!"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];

fn leftovers(source: &Source<'_>) -> Vec<Finding> {
    find(source, |text| {
        LEFTOVERS.iter().find(|word| has_word(text, word)).map(|w| format!("{w}: finish it or file it"))
    })
}

fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(joins) && (word.ends_with('!') || !after.is_some_and(joins))
    })
}

fn ignored_tests(source: &Source<'_>) -> Vec<Finding> {
    let reason = "an ignored test tests nothing: repair it or delete it";
    find(source, |text| text.trim_start().starts_with("#[ignore").then(|| reason.to_owned()))
}

fn dead_code(source: &Source<'_>) -> Vec<Finding> {
    let is_attribute = |text: &str| text.starts_with("#[") || text.starts_with("#![");
    find(source, |text| {
        let text = text.trim_start();
        let silenced = is_attribute(text) && text.contains("allow(") && text.contains("dead_code");
        silenced.then(|| "dead code is deleted, not silenced".to_owned())
    })
}

/// What makes an exception from [`sleeping`], with a reason behind it, on the same line or the one above.
const ALLOW_SLEEP: &str = "// tidy: allow sleep:";

fn sleeping(source: &Source<'_>) -> Vec<Finding> {
    if !["tests/", "agent/"].iter().any(|dir| source.name.starts_with(dir)) {
        return Vec::new();
    }
    let excused =
        |text: &str| text.split_once(ALLOW_SLEEP).is_some_and(|(_, reason)| !reason.trim().is_empty());
    let mut out = Vec::new();
    let mut above = "";
    for (at, line) in source.numbered() {
        if line.code().contains("sleep(") && !excused(line.text) && !excused(above) {
            let how = format!("wait for a condition with a deadline, or say why not: {ALLOW_SLEEP} REASON");
            out.push((at, how));
        }
        above = line.text;
    }
    out
}

/// The lines about which `judge` has something to say.
fn find(source: &Source<'_>, judge: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    source.numbered().filter_map(|(at, line)| Some((at, judge(line.text)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    /// The numbers of the lines that break a rule, in a file of that name.
    fn found(rule: fn(&Source<'_>) -> Vec<Finding>, name: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(name.to_owned(), text)).into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn files_begin_with_a_doc() {
        assert_eq!(found(module_doc, "a.rs", "//! What it is.\nfn f() {}\n"), NOTHING);
        assert_eq!(found(module_doc, "a.rs", "\nuse x;\n//! Late.\n"), [2]);
        assert_eq!(found(module_doc, "a.rs", ""), [1]);
    }

    #[test]
    fn only_code_counts_towards_the_limit() {
        let (code, comments) = ("x();\n".repeat(HARD_LIMIT), "// why\n\n".repeat(HARD_LIMIT));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    y();\n".repeat(HARD_LIMIT));
        assert_eq!(found(length, "a.rs", &format!("{code}{comments}{tests}")), NOTHING);
        assert_eq!(found(length, "a.rs", &format!("{code}{comments}x();\n")), [3 * HARD_LIMIT + 1]);
        let noted = |text: &str| note(&Source::new("a.rs".to_owned(), text)).is_some();
        assert!(noted(&code) && !noted(&"x();\n".repeat(SOFT_LIMIT)));
    }

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        for word in LEFTOVERS {
            assert_eq!(
                found(leftovers, "a.rs", &format!("ok\n    {word}(later) // {word}\n")),
                [2],
                "{word}"
            );
        }
        assert_eq!(
            found(leftovers, "a.rs", concat!("mktemp(XX", "XXXX)\nMASTO", "DONT\nmy_dbg", "!()\n")),
            NOTHING
        );
    }

    #[test]
    fn tests_are_not_ignored_and_dead_code_not_silenced() {
        assert_eq!(found(ignored_tests, "a.rs", "#[test]\n    #[ignore = \"slow\"]\n"), [2]);
        assert_eq!(found(dead_code, "a.rs", "#[allow(unused, dead_code)]\n// allow(dead_code)\n"), [1]);
        assert_eq!(found(dead_code, "a.rs", "#![cfg_attr(x, allow(dead_code))]\n"), [1]);
    }

    #[test]
    fn sleeping_takes_a_reason() {
        let sleep = "    sleep(ONE);\n";
        assert_eq!(found(sleeping, "tests/netns/main.rs", sleep), [1]);
        assert_eq!(found(sleeping, "xtask/src/main.rs", sleep), NOTHING);
        let with = |comment: &str| format!("{comment}\n{sleep}");
        assert_eq!(
            found(sleeping, "agent/src/a.rs", &with("// tidy: allow sleep: the device has no event")),
            NOTHING
        );
        assert_eq!(found(sleeping, "agent/src/a.rs", &with("// tidy: allow sleep: ")), [2]);
        assert_eq!(found(sleeping, "agent/src/a.rs", "// never sleep() here\n"), NOTHING);
    }
}
