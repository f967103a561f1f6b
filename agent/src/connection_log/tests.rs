//! Tests of the log: what is in the file, what is counted, and what a reload and a full disk do to it.

use super::*;
use crate::connection::tests::answered;
use std::{
    fs,
    time::{Duration, Instant},
};

fn opened(path: &std::path::Path, share: f64) -> Option<Opened> {
    let settings = Settings { path: path.into(), sample_good: Rate::new(share).unwrap() };
    Opened::of(Some(&settings)).unwrap()
}

fn add(log: &mut Log, count: u32, result: Served) {
    for isn in 0..count {
        let mut connection = answered("outside", 1_700_000_000_000_000_000);
        connection.from_client.isn = Some(isn);
        connection.result = Some(result);
        log.add(&connection);
    }
}

fn lines_of(path: &std::path::Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

/// Waits until so many lines are accounted for.
fn accounted(log: &Log, lines: u64) {
    let began = Instant::now();
    while {
        let l = log.lines();
        l.written + l.failed + l.sampled_out
    } < lines
    {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", log.lines());
        std::thread::yield_now();
    }
}

#[test]
fn failed_ones_are_always_written_and_good_ones_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connections.jsonl");
    let mut log = Log::default();
    log.turn(opened(&path, 0.0)).unwrap();
    add(&mut log, 5, Served::Answered);
    add(&mut log, 4, Served::Unused);
    for result in [Served::Unanswered, Served::Reset, Served::Refused, Served::TimedOut] {
        add(&mut log, 10, result);
    }
    log.finish();
    assert_eq!(log.lines(), Lines { written: 40, sampled_out: 9, failed: 0 });
    assert_eq!(lines_of(&path), 40);
    assert!(
        fs::read_to_string(&path).unwrap().lines().all(|line| line.starts_with('{') && line.ends_with('}'))
    );
    log.turn(opened(&path, 1.0)).unwrap();
    add(&mut log, 1_000, Served::Answered);
    log.finish();
    assert_eq!((log.lines().written, lines_of(&path)), (1_040, 1_040), "it appends, and counts go on");
    assert!(!log.is_on());
    add(&mut log, 1, Served::Reset);
    assert_eq!(log.lines().written, 1_040, "off is off");
}

#[test]
fn a_rotated_file_is_let_go_of() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
    let mut log = Log::default();
    log.turn(opened(&path, 1.0)).unwrap();
    add(&mut log, 3, Served::Answered);
    log.flush();
    accounted(&log, 3);
    fs::rename(&path, &old).unwrap();
    add(&mut log, 2, Served::Answered);
    log.flush();
    accounted(&log, 5);
    log.turn(opened(&path, 1.0)).unwrap();
    add(&mut log, 4, Served::Answered);
    log.finish();
    assert_eq!((lines_of(&old), lines_of(&path)), (5, 4));
}

#[test]
fn a_full_disk_loses_lines_and_counts_them() {
    let mut log = Log::default();
    log.turn(opened("/dev/full".as_ref(), 1.0)).unwrap();
    add(&mut log, 7, Served::Reset);
    log.flush();
    accounted(&log, 7);
    assert_eq!(log.lines(), Lines { written: 0, sampled_out: 0, failed: 7 });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    log.turn(opened(&path, 1.0)).unwrap();
    add(&mut log, 2, Served::Reset);
    log.finish();
    assert_eq!((log.lines().written, lines_of(&path)), (2, 2));
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    use std::os::fd::OwnedFd;
    let (_reader, pipe) = std::io::pipe().unwrap();
    let mut log = Log::default();
    let settings = Settings { path: "pipe".into(), sample_good: Rate::EVERY };
    log.turn(Some(Opened { settings, file: File::from(OwnedFd::from(pipe)) })).unwrap();
    let began = Instant::now();
    while log.lines().failed == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "what waits is bounded");
        add(&mut log, 1_000, Served::Reset);
    }
    log.finish();
    assert!(log.lines().written < 1_000, "a pipe holds 64 KiB: {:?}", log.lines());
}

#[test]
fn a_file_that_cannot_be_opened_is_told_with_the_key() {
    let settings = Settings { path: "/nonexistent/log".into(), sample_good: Rate::EVERY };
    let text = crate::why::text(&Opened::of(Some(&settings)).unwrap_err());
    assert!(text.contains("/nonexistent/log") && text.contains("connection_log.path"), "{text}");
}
