//! The `aegis` binary: commands and their output. What they do is the daemon's; offline commands are the server
//! crate's.

mod args;
mod command;
mod failure;
mod follow;
mod home;
mod later;
mod manifest;
mod output;
mod reference;
mod table;

use std::process::ExitCode;

use aegis_core::{Diagnosis, ErrorCode};
use clap::Parser as _;

use crate::args::{Arguments, Format};
use crate::failure::Failure;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let json = wants_json(&words);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused_arguments(&error, json),
    };
    let json = arguments.global.output == Some(Format::Json) || json;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Diagnosis::internal(format!("the runtime cannot be made: {error}")))?;
    runtime.block_on(command::run(arguments))
}

/// What the user asked for as output, also where the rest of the line does not parse.
fn wants_json(words: &[String]) -> bool {
    words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--output" && value == "json"))
}

fn refused_arguments(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        // Help and version: asked for, so on standard output.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return Failure::from(Diagnosis::new(ErrorCode::InvalidInput, message).hint("see `aegis --help`"))
            .tell(true);
    }
    let _ = error.print();
    ExitCode::from(ErrorCode::InvalidInput.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_for_json_is_seen_without_parsing() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(wants_json(&words("aegis agent list --output json")));
        assert!(wants_json(&words("aegis --output=json agent wrong")));
        assert!(!wants_json(&words("aegis agent list --output table json")));
    }
}
