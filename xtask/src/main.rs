//! Repository tasks: `cargo xtask tidy`, `cargo xtask generate`, `cargo xtask probe`.

mod generated;
mod probe;
mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <TASK>

  tidy       check crate edges, file and function sizes, names, `unsafe`, generated files
  generate   write the generated files (schemas/, docs/reference/)
  probe      print what this machine lacks to build, run and test AEGIS
             --json             as JSON
             --require A,B      fail when one of these parts is missing";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().map(String::as_str);
    let outcome = match words.next() {
        Some("tidy") => tidy::run(&repository_root()),
        Some("generate") => generated::write(&repository_root()),
        Some("probe") => probe::run(&words.collect::<Vec<_>>()),
        Some("help" | "--help" | "-h") => {
            say(USAGE);
            Ok(())
        }
        Some(other) => Err(format!("unknown task `{other}`\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace's `Cargo.toml`: the parent of this crate's own.
fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Prints one line to standard output. A reader that went away is no failure of the task.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints one line to standard error.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
