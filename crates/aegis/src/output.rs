//! Data on standard output, in the form that was asked for.

use std::io::{IsTerminal as _, Write as _};

use aegis_api::{printable_json, printable_text};
use aegis_core::Diagnosis;
use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;

/// Writes a line of data.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable_text(text))?;
    out.flush()?;
    Ok(())
}

/// Writes text that ends as it ends.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let text = printable_text(text);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Writes bytes as they are; to a terminal, text with its control characters shown.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        out.write_all(printable_text(&shown).as_bytes())?;
    } else {
        out.write_all(bytes)?;
    }
    out.flush()?;
    Ok(())
}

/// Words for people beside the data.
pub(crate) fn note(words: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable_text(words));
}

/// Writes `value` as JSON or YAML, or what `words` makes of it.
pub(crate) fn show<T: Serialize>(
    format: Option<Format>,
    value: &T,
    words: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Some(Format::Json) => json(value),
        Some(Format::Yaml) => yaml(value),
        Some(Format::Text | Format::Table) | None => text(&words(value)),
    }
}

/// Writes `value` as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| Diagnosis::internal(format!("the output does not serialise: {error}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable_json(&json))?;
    out.flush()?;
    Ok(())
}

/// Writes one line of JSON.
pub(crate) fn json_line(json: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable_json(json))?;
    out.flush()?;
    Ok(())
}

fn yaml(value: &impl Serialize) -> Result<(), Failure> {
    let yaml = serde_saphyr::to_string(value)
        .map_err(|error| Diagnosis::internal(format!("the output does not serialise: {error}")))?;
    text(&yaml)
}
