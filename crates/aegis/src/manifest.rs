//! Manifests on the user's machine: read, and what they attach from files read with them.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use aegis_core::limits::DOCUMENT_BYTES_MAX;
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::{Value, json};

use crate::command::file_error;
use crate::failure::{Failure, invalid};

/// Most files taken from one directory.
const DIRECTORY_FILES_MAX: usize = 1_000;
/// Deepest folder taken from one directory.
const DIRECTORY_DEPTH_MAX: usize = 16;

/// The document to send: the file as it is, or with the content of the files it attaches.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let text = read_file(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = attach(text, folder)?;
    if text.len() > DOCUMENT_BYTES_MAX { Err(too_large(path)) } else { Ok(text) }
}

/// The file as it is, within the size of a document.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text))
    }
    .map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => invalid(format!("no file `{}`", path.display()), "check the path"),
        _ => file_error(path, &error),
    })?;
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(too_large(path));
    }
    Ok(text)
}

fn too_large(path: &Path) -> Failure {
    Diagnosis::new(
        ErrorCode::InvalidInput,
        format!("`{}` is larger than {DOCUMENT_BYTES_MAX} bytes with what it attaches", path.display()),
    )
    .hint("put large files into a volume, and attach only what every prompt needs")
    .into()
}

/// Fills in `content` and `files` of attached files. A document that attaches none, or does not parse, is sent as it
/// stands: comments and order are the author's, and errors are best told by who reads it whole.
fn attach(text: String, folder: &Path) -> Result<String, Failure> {
    let Ok(mut document) = serde_saphyr::from_str::<Value>(&text) else { return Ok(text) };
    let Some(items) = document.pointer_mut("/spec/context").and_then(Value::as_array_mut) else {
        return Ok(text);
    };
    let mut filled = false;
    for item in items {
        let Some(path) = item.get("path").and_then(Value::as_str).map(PathBuf::from) else { continue };
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        let (field, value) = match kind {
            "file" if item.get("content").is_none() => ("content", json!(read_text(&folder.join(&path))?)),
            "directory" if item.get("files").is_none() => {
                ("files", Value::Array(read_directory(&folder.join(&path))?))
            }
            _ => continue,
        };
        if let Some(map) = item.as_object_mut() {
            map.insert(field.to_owned(), value);
            filled = true;
        }
    }
    if !filled {
        return Ok(text);
    }
    serde_saphyr::to_string(&document)
        .map_err(|error| Diagnosis::internal(format!("the manifest does not serialise: {error}")).into())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        invalid(
            format!("`spec.context`: `{}`: {error}", path.display()),
            "paths are relative to the manifest; files are UTF-8 text",
        )
    })
}

/// The regular text files below `folder`, sorted by path. Links are left out: what they lead to is not below it.
fn read_directory(folder: &Path) -> Result<Vec<Value>, Failure> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), 0usize)];
    while let Some((directory, depth)) = open.pop() {
        let entries = std::fs::read_dir(&directory).map_err(|error| {
            invalid(
                format!("`spec.context`: `{}`: {error}", directory.display()),
                "paths are relative to the manifest",
            )
        })?;
        for entry in entries {
            let entry = entry.map_err(|error| file_error(&directory, &error))?;
            let kind = entry.file_type().map_err(|error| file_error(&entry.path(), &error))?;
            if kind.is_dir() && depth < DIRECTORY_DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                files.push(entry.path());
            }
            if files.len() > DIRECTORY_FILES_MAX {
                let what = format!(
                    "`spec.context`: `{}` holds more than {DIRECTORY_FILES_MAX} files",
                    folder.display()
                );
                return Err(invalid(what, "attach a smaller directory, or put the files into a volume"));
            }
        }
    }
    files.sort();
    files
        .iter()
        .map(|file| Ok(json!({"path": relative(file, folder), "content": read_text(file)?})))
        .collect()
}

fn relative(file: &Path, folder: &Path) -> String {
    let inner = file.strip_prefix(folder).unwrap_or(file);
    let parts = inner.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_attaches_nothing_is_sent_as_it_stands() {
        let text = "# mine\nspec: {context: [{type: text, content: x}]}\n";
        assert_eq!(attach(text.to_owned(), Path::new("/")).unwrap(), text);
        let broken = "a: [\n";
        assert_eq!(attach(broken.to_owned(), Path::new("/")).unwrap(), broken);
    }

    #[test]
    fn attached_files_come_along() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("docs/deep")).unwrap();
        std::fs::write(folder.path().join("note.txt"), "note").unwrap();
        std::fs::write(folder.path().join("docs/b.md"), "b").unwrap();
        std::fs::write(folder.path().join("docs/deep/a.md"), "a").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("docs/link")).unwrap();
        let text =
            "spec:\n  context:\n    - {type: file, path: note.txt}\n    - {type: directory, path: docs}\n";
        let sent = attach(text.to_owned(), folder.path()).unwrap();
        let sent: Value = serde_saphyr::from_str(&sent).unwrap();
        assert_eq!(sent.pointer("/spec/context/0/content").unwrap(), "note");
        assert_eq!(
            sent.pointer("/spec/context/1/files").unwrap(),
            &json!([{"path": "b.md", "content": "b"}, {"path": "deep/a.md", "content": "a"}])
        );
        let missing = "spec: {context: [{type: file, path: nowhere.txt}]}".to_owned();
        assert!(attach(missing, folder.path()).is_err());
    }
}
