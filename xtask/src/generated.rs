//! Files that are generated from the types and checked in.

use std::fs;
use std::path::Path;

use crate::say;

/// A generated file: where it lies below the repository's root, and what it must hold.
struct Artefact {
    path: String,
    text: String,
}

/// A JSON Schema and a reference page for each kind of document.
fn artefacts() -> Result<Vec<Artefact>, String> {
    let mut artefacts = Vec::new();
    for kind in aegis_manifest::KINDS {
        let schema = aegis_manifest::schema(kind).ok_or_else(|| format!("`{kind}` has no schema"))?;
        let schema = serde_json::to_string_pretty(schema).map_err(|error| format!("`{kind}`: {error}"))?;
        let reference =
            aegis_manifest::manifest_reference(kind).ok_or_else(|| format!("`{kind}` has no page"))?;
        artefacts.push(Artefact { path: format!("schemas/{kind}.schema.json"), text: schema + "\n" });
        artefacts.push(Artefact { path: format!("docs/reference/manifest-{kind}.md"), text: reference });
    }
    Ok(artefacts)
}

/// Writes every generated file that is not as it should be.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    for artefact in artefacts()? {
        let path = root.join(&artefact.path);
        let named = |error: std::io::Error| format!("{}: {error}", artefact.path);
        if fs::read_to_string(&path).is_ok_and(|text| text == artefact.text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(named)?;
        }
        fs::write(&path, &artefact.text).map_err(named)?;
        say(&format!("wrote {}", artefact.path));
    }
    Ok(())
}

/// Names every generated file that is missing or differs from what the types say.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for artefact in artefacts()? {
        match fs::read_to_string(root.join(&artefact.path)) {
            Ok(text) if text == artefact.text => {}
            Ok(_) => problems.push(format!("{}: out of date; run `cargo xtask generate`", artefact.path)),
            Err(error) => problems.push(format!("{}: {error}; run `cargo xtask generate`", artefact.path)),
        }
    }
    Ok(problems)
}
