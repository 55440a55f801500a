//! Tool servers that were added to a running node: a file each in the data folder, read with the configuration. Each is a
//! section as the configuration writes it, and is held to the same rules.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aegis_core::limits::DOCUMENT_BYTES_MAX;
use aegis_core::{Body, Diagnosis, ErrorCode, Name, Sha256, SignOut};
use aegis_kernel::{Caller, Refusal};
use aegis_manifest::node::{McpServer, Reference};
use aegis_manifest::{NodeConfig, Parsed, parse_mcp_server};
use aegis_tools::mcp::{Reach, Revocation, ServerSettings};

use super::{checked, settings};
use crate::answer::Refused;
use crate::app::App;
use crate::private_file;
use crate::routes::record_of_person as record;

/// Where the files lie, in the data folder.
const FOLDER: &str = "servers";
/// Most servers that may be added.
const ADDED_MAX: usize = 256;

/// The servers that were added, in the order of their names.
///
/// # Errors
/// If a file cannot be read or put into force. Its problems, with their places.
pub(super) fn read(home: &Path) -> Result<Vec<ServerSettings>, Diagnosis> {
    let failed = |path: &Path, error: &std::io::Error| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {error}", path.display()))
    };
    let folder = home.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&folder, &error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(|error| failed(&folder, &error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let mut added = Vec::new();
    for path in paths.iter().take(ADDED_MAX) {
        let text = std::fs::read_to_string(path).map_err(|error| failed(path, &error))?;
        let shown = path.display().to_string();
        let server = understood(&text, &shown, home).map_err(|refusal| {
            let first = refusal.problems.into_iter().next();
            first.unwrap_or_else(|| Diagnosis::internal(format!("`{shown}` is not understood")))
        })?;
        if path.file_stem().is_none_or(|stem| stem != server.name.as_str()) {
            let what = format!("`{shown}` is the section of `{}`: a file has its server's name", server.name);
            return Err(Diagnosis::new(ErrorCode::InvalidInput, what).hint("move it away, and add it again"));
        }
        added.push(server);
    }
    Ok(added)
}

/// The section in `text`, checked. `file` is what problems call it.
fn understood(text: &str, file: &str, home: &Path) -> Result<ServerSettings, Refusal> {
    let parsed = parse_mcp_server(text, file)
        .map_err(|found| Refusal { rendered: Some(found.render()), problems: found.to_diagnoses() })?;
    let wrong = |field: &str, what: String| {
        let (line, column) = parsed.position(field).unwrap_or((1, 1));
        Diagnosis::new(ErrorCode::InvalidInput, format!("{file}:{line}:{column}: {field}: {what}"))
    };
    if !parsed.document.enabled {
        let what = "a server that is added is used".to_owned();
        return Err(wrong("enabled", what).hint("leave `enabled` out, or do not add it").into());
    }
    foreign(&parsed).map_or(Ok(()), |(field, what)| {
        let hint = "put it into the store with `aegis secret set NAME`, and write `secret:NAME`; or write the server \
                    into the node's configuration";
        Err(Refusal::from(wrong(&field, what).hint(hint)))
    })?;
    let alone = NodeConfig {
        spec: aegis_manifest::node::NodeSpec {
            mcp_servers: vec![parsed.document.clone()],
            ..Default::default()
        },
        ..NodeConfig::default()
    };
    let missing = alone.unenforced();
    if !missing.is_empty() {
        return Err(Refusal { problems: missing, rendered: None });
    }
    checked(&parsed.document, home).map_err(|(field, what)| wrong(field, what).into())
}

/// What only the node's configuration may say: the daemon's own environment is the operator's.
fn foreign(parsed: &Parsed<McpServer>) -> Option<(String, String)> {
    let server = &parsed.document;
    let env = server.env.iter().map(|(name, value)| (format!("env.{name}"), value));
    let headers = server.headers.iter().map(|(name, value)| (format!("headers.{name}"), value));
    let secret = server.oauth.iter().filter_map(|oauth| oauth.client_secret.as_ref());
    let secret = secret.map(|value| ("oauth.client_secret".to_owned(), value));
    env.chain(headers).chain(secret).find_map(|(field, value)| match value {
        Reference::Env(_) => {
            Some((field, "a server that is added is given nothing of the daemon's environment".to_owned()))
        }
        Reference::Literal(text) if text.contains("${") => {
            Some((field, "`${…}` is replaced in the node's configuration alone".to_owned()))
        }
        _ => None,
    })
}

fn path(home: &Path, name: &Name) -> PathBuf {
    home.join(FOLDER).join(format!("{name}.yaml"))
}

fn digest(text: &[u8]) -> Sha256 {
    use sha2::Digest as _;
    Sha256::from_bytes(sha2::Sha256::digest(text).into())
}

fn failed(path: &Path, error: &std::io::Error) -> Diagnosis {
    Diagnosis::internal(format!("`{}`: {error}", path.display()))
}

/// Whether the configuration itself names the server.
pub(crate) fn is_configured(app: &App, name: &str) -> bool {
    app.configured(|configured| configured.node.spec.mcp_servers.iter().any(|server| server.name == name))
}

/// Adds the server of a section, which is on record before it is in force. The same section again changes nothing.
/// Gives its name.
///
/// # Errors
/// If the section is wrong, or another server has its name.
pub(crate) async fn add(app: &App, caller: &Caller, text: &str, file: &str) -> Result<Name, Refused> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let what = format!("the section is larger than {DOCUMENT_BYTES_MAX} bytes");
        return Err(Diagnosis::new(ErrorCode::InvalidInput, what).into());
    }
    let server = understood(text, file, &app.home)?;
    let name = server.name.clone();
    let _turn = app.taking.lock().await;
    let taken = |what: String, hint: String| Diagnosis::new(ErrorCode::Conflict, what).hint(hint);
    if is_configured(app, name.as_str()) {
        let hint = "choose another name, or change it there and reload".to_owned();
        return Err(taken(format!("the node's configuration has a server `{name}`"), hint).into());
    }
    let path = path(&app.home, &name);
    match std::fs::read(&path) {
        Ok(former) if former == text.as_bytes() => return Ok(name),
        Ok(_) => {
            let hint = format!("remove it first: `aegis server remove {name}`");
            return Err(taken(format!("another server `{name}` was added before"), hint).into());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&path, &error).into()),
    }
    let node = app.configured(|configured| configured.node.clone());
    let mut all = settings(&node, &app.home)?;
    if all.len() >= ADDED_MAX + node.spec.mcp_servers.len() {
        let hint = "remove one with `aegis server remove NAME`".to_owned();
        return Err(taken(format!("{ADDED_MAX} servers were added already"), hint).into());
    }
    all.push(server);
    let folder = path.parent().unwrap_or(&app.home);
    private_file::folder(folder).map_err(|error| failed(folder, &error))?;
    let staged = private_file::stage(&path, text.as_bytes()).map_err(|error| failed(&path, &error))?;
    let digest = digest(text.as_bytes());
    record(app, caller, Body::ServerAdded { server: name.clone(), digest }).await?;
    if let Err(error) = staged.put() {
        record(app, caller, Body::ServerRemoved { server: name, digest }).await?;
        return Err(failed(&path, &error).into());
    }
    app.servers.replace(all).await.map_err(|error| Diagnosis::internal(error.to_string()))?;
    Ok(name)
}

/// Removes a server that was added, and ends it.
///
/// # Errors
/// If none was added under the name.
pub(crate) async fn remove(app: &App, caller: &Caller, name: &str) -> Result<(), Refused> {
    let unknown = || Diagnosis::not_found("server", name).hint("see `aegis server list`");
    let name: Name = name.parse().map_err(|_| unknown())?;
    let _turn = app.taking.lock().await;
    if is_configured(app, name.as_str()) {
        let what = format!("`{name}` is a server of the node's configuration");
        let hint = "remove it from `spec.mcp_servers`, and reload";
        return Err(Diagnosis::new(ErrorCode::Conflict, what).hint(hint).into());
    }
    let path = path(&app.home, &name);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(unknown().into()),
        Err(error) => return Err(failed(&path, &error).into()),
    };
    let digest = digest(&text);
    let node = app.configured(|configured| configured.node.clone());
    let mut rest = settings(&node, &app.home)?;
    let signs_in = |server: &ServerSettings| {
        server.name == name && matches!(&server.reach, Reach::Address { oauth: Some(_), .. })
    };
    if rest.iter().any(signs_in) {
        sign_out(app, caller, &name).await?;
    }
    rest.retain(|server| server.name != name);
    record(app, caller, Body::ServerRemoved { server: name.clone(), digest }).await?;
    if let Err(error) = private_file::remove(&path) {
        record(app, caller, Body::ServerAdded { server: name, digest }).await?;
        return Err(failed(&path, &error).into());
    }
    app.servers.replace(rest).await.map_err(|error| Diagnosis::internal(error.to_string()))?;
    Ok(())
}

/// Destroys the tokens of a server that is removed, while it is still known. What other tenants have stays theirs, and is
/// shown to no other address.
async fn sign_out(app: &App, caller: &Caller, server: &Name) -> Result<(), Refused> {
    match app.servers.logout(&caller.tenant, server.as_str()).await {
        Ok(Revocation::Nothing) => Ok(()),
        Ok(revocation) => {
            let revoked = revocation == Revocation::Revoked;
            let body = Body::ServerSignedOut { server: server.clone(), by: SignOut::Person, revoked };
            record(app, caller, body).await
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let home = tempfile::tempdir().unwrap();
        let refusal =
            understood(&text.replace("HOME", &home.path().display().to_string()), "x.yaml", home.path());
        let refusal = refusal.unwrap_err();
        refusal.rendered.unwrap_or_else(|| refusal.problems[0].message.clone())
    }

    #[test]
    fn a_section_is_held_to_the_rules_of_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let good = "name: git\nexecutable: mcp-server-git\nenv: {TOKEN: secret:git}\n";
        assert_eq!(understood(good, "x.yaml", home.path()).unwrap().credential(), "TOKEN=secret:git");
        for (text, place, what) in [
            ("name: a\nexecutible: x\n", "x.yaml:2:1", "executable"),
            ("name: Bad\nexecutable: x\n", "x.yaml:1:7", "not a server's name"),
            ("name: a\nexecutable: x\nfolders:\n  - relative\n", "x.yaml:4:3", "absolute"),
            ("name: a\nexecutable: x\nfolders: [HOME]\n", "x.yaml:3:10", "the node's own"),
            ("name: a\nexecutable: x\nfolders: [HOME/..]\n", "x.yaml:3:10", "`..`"),
            ("name: a\nexecutable: x\nenv:\n  KEY: env:AEGIS_SECRET_KEY\n", "x.yaml:4:8", "environment"),
            ("name: a\nurl: https://h/\nheaders:\n  X: \"${HOME}\"\n", "x.yaml:4:6", "configuration alone"),
            ("name: a\nurl: file:///etc/passwd\n", "x.yaml:2:6", "not an address"),
            ("name: a\nexecutable: x\nenabled: false\n", "x.yaml:3:10", "is used"),
        ] {
            let told = told(text);
            assert!(told.contains(place) && told.contains(what), "{text}: {told}");
        }
    }

    #[test]
    fn a_file_has_the_name_of_its_server_and_a_wrong_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(home.path()).unwrap(), Vec::new());
        let folder = home.path().join(FOLDER);
        private_file::folder(&folder).unwrap();
        std::fs::write(folder.join("a.yaml"), "name: a\nexecutable: x\n").unwrap();
        std::fs::write(folder.join("b.new"), "half").unwrap();
        assert_eq!(read(home.path()).unwrap()[0].name.as_str(), "a");
        std::fs::write(folder.join("c.yaml"), "name: b\nexecutable: x\n").unwrap();
        assert!(read(home.path()).unwrap_err().message.contains("its server's name"));
        std::fs::write(folder.join("c.yaml"), "name: [").unwrap();
        assert!(read(home.path()).unwrap_err().message.contains("c.yaml:1"));
    }
}
