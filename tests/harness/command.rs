//! External programs (ip, ethtool, nft), run to their end; a failure says what was run and what it answered.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs the command with `input` on its standard input and returns its standard output.
///
/// # Panics
/// When the program is missing or fails, with the command line and its standard error.
#[track_caller]
pub fn run(mut command: Command, input: &str) -> String {
    let line = describe(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    // A program that ends before it has read everything says why on its standard error; that is reported below.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for `{line}`: {error}"));
    assert!(
        output.status.success(),
        "`{line}` failed ({}): {}{input}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
