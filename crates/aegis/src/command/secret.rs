//! `aegis secret …`. A value comes from standard input or a file, never from the command line: other users of the
//! machine can read that.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use aegis_api::SetSecret;
use serde_json::json;

use super::file_error;
use crate::args::{Global, Secret};
use crate::failure::{Failure, invalid};
use crate::output;
use crate::table::table;

/// Most bytes that are read; the daemon takes 16 KiB.
const VALUE_BYTES_MAX: u64 = 64 << 10;

pub(super) async fn run(global: &Global, command: Secret) -> Result<(), Failure> {
    match command {
        Secret::Set { name, from_file } => change(global, &name, from_file.as_deref(), false).await,
        Secret::Rotate { name, from_file } => change(global, &name, from_file.as_deref(), true).await,
        Secret::List => {
            let page = global.client()?.secrets().await?;
            output::show(global.output, &page, |page| {
                let rows = page.items.iter().map(|secret| {
                    vec![secret.name.clone(), secret.version.to_string(), secret.updated_at.clone()]
                });
                table(&["NAME", "VERSION", "UPDATED"], rows)
            })
        }
        Secret::Delete { name } => {
            global.client()?.delete_secret(&name).await?;
            let value = json!({"name": name, "status": "deleted"});
            output::show(global.output, &value, |_| format!("Deleted secret {name}"))
        }
    }
}

async fn change(global: &Global, name: &str, file: Option<&Path>, rotate: bool) -> Result<(), Failure> {
    let value = read(name, file)?;
    let changed = global.client()?.set_secret(name, &SetSecret { value, rotate }).await?;
    output::show(global.output, &changed, |changed| {
        let verb = if rotate { "Rotated" } else { "Set" };
        format!("{verb} secret {} (version {})", changed.name, changed.version)
    })
}

/// The value, without the one line end that editors and `echo` put behind it.
fn read(name: &str, file: Option<&Path>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let done = match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(VALUE_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(|error| file_error(path, &error)),
        None if std::io::stdin().is_terminal() => {
            return Err(invalid(
                "a value typed here would be shown".to_owned(),
                format!("pipe it in: `read -rs VALUE && printf %s \"$VALUE\" | aegis secret set {name}`"),
            ));
        }
        None => std::io::stdin()
            .take(VALUE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| file_error(Path::new("standard input"), &error)),
    };
    done?;
    let mut text = String::from_utf8(bytes).map_err(|_| {
        invalid("the value is no text".to_owned(), "encode it first, for example with base64".to_owned())
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
