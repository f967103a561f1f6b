//! Errors as one line for an operator.

/// What failed and why, outermost first; what an error repeats of its cause is said once.
pub fn text(error: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if out.is_empty() {
            out = cause;
        } else if !out.contains(&cause) {
            out.push_str(": ");
            out.push_str(&cause);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("no room");
        let error = anyhow::Error::new(inner).context("map error: no room").context("cannot start");
        assert_eq!(text(&error), "cannot start: map error: no room");
        assert_eq!(format!("{error:#}"), "cannot start: map error: no room: no room");
    }
}
