//! Every input that fuzzing kept, through what the fuzz targets do with it: what was found once stays found.

use std::fs;
use std::path::Path;

#[path = "../../agent-ebpf/fuzz/src/lib.rs"]
mod inputs;

/// Runs every file of a target's corpus, and says which one fails.
#[track_caller]
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent-ebpf/fuzz/corpus").join(target);
    let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut count = 0;
    for file in files {
        let path = file.expect("the corpus can be listed").path();
        let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            panic!("{} fails, see above", path.display());
        }
        count += 1;
    }
    assert!(count > 30, "{} holds only {count} inputs", corpus.display());
}

#[test]
fn frames_read_as_they_must() {
    replay("frame", inputs::frame::check);
}

#[test]
fn books_balance() {
    replay("flow", inputs::flow::check);
}

#[test]
fn captures_are_read_to_their_end() {
    replay("capture", inputs::capture::check);
}
