//! Sizes, names and words of the files in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::code;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// One list, entry after entry: in two files it would only be harder to find that it is one.
const LIST: &str = "crates/aegis-core/src/event/body.rs";
const LIST_LINES_MAX: usize = 700;

/// Names that say nothing about what is inside.
const FORBIDDEN_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// The only crate whose code may say `unsafe`, and only in one file of it.
const UNSAFE_CRATE: &str = "crates/aegis-sandbox/src/";

/// Paths of one machine. Written in two pieces so that this file does not contain them.
const MACHINE_PATHS: &[&str] =
    &[concat!("/work", "/main"), concat!("/work", "/shared"), concat!("/work", "/.")];

const FOLDERS: &[&str] =
    &[".cargo", ".ci", "benches", "crates", "docs", "examples", "guest", "schemas", "sdk", "tests", "xtask"];
const SKIPPED_FOLDERS: &[&str] = &["__pycache__", "target"];

/// One text file: its path below the repository's root, and what is in it.
pub(crate) struct Source {
    path: String,
    text: String,
}

/// Reads every text file of the repository.
pub(crate) fn read(root: &Path) -> Result<Vec<Source>, String> {
    let mut paths = entries(root)?;
    // In a linked work tree `.git` is a file that names another folder.
    paths.retain(|path| path.is_file() && path.file_name() != Some(".git".as_ref()));
    for folder in FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
        collect(&folder, &mut paths)?;
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        sources.push(Source { path, text });
    }
    Ok(sources)
}

/// All problems of all files.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems: Vec<String> = sources.iter().flat_map(machine_paths).collect();
    let mut with_unsafe = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        let code = code::without_comments_and_literals(&source.text);
        problems.extend(sizes(source, &code));
        problems.extend(names(source, &code));
        if code::has_word(&code, "unsafe") {
            with_unsafe.push(source.path.as_str());
        }
    }
    problems.extend(unsafe_files(&with_unsafe));
    problems
}

fn sizes(source: &Source, code: &str) -> Vec<String> {
    let path = &source.path;
    let mut problems = Vec::new();
    let lines = source.text.lines().count();
    let most = if path.as_str() == LIST { LIST_LINES_MAX } else { FILE_LINES_MAX };
    if lines > most {
        problems.push(format!("{path}: {lines} lines, at most {most}: split it by what its parts do"));
    }
    for function in code::functions(code).iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let (line, name, lines) = (function.line, &function.name, function.lines);
        problems.push(format!("{path}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
    }
    problems
}

fn names(source: &Source, code: &str) -> Vec<String> {
    let path = &source.path;
    let mut names: Vec<String> =
        path.split('/').map(|part| part.trim_end_matches(".rs").to_owned()).collect();
    names.extend(code::modules(code));
    names.sort();
    names.dedup();
    names.retain(|name| FORBIDDEN_NAMES.contains(&name.as_str()));
    names
        .iter()
        .map(|name| format!("{path}: `{name}` says nothing: name the module after what it holds"))
        .collect()
}

fn machine_paths(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    let named = lines.filter(|(_, line)| MACHINE_PATHS.iter().any(|path| line.contains(path)));
    named.map(|(index, _)| format!("{}:{}: names a path of one machine", source.path, index + 1)).collect()
}

fn unsafe_files(with_unsafe: &[&str]) -> Vec<String> {
    let (inside, outside): (Vec<&str>, Vec<&str>) =
        with_unsafe.iter().copied().partition(|path| path.starts_with(UNSAFE_CRATE));
    let mut problems: Vec<String> = outside
        .iter()
        .map(|path| format!("{path}: `unsafe` is allowed in one module of aegis-sandbox only"))
        .collect();
    if inside.len() > 1 {
        problems.push(format!(
            "aegis-sandbox: `unsafe` in {} files, at most one: {}",
            inside.len(),
            inside.join(", ")
        ));
    }
    problems
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || SKIPPED_FOLDERS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::read_dir(folder).map_err(named)?.map(|entry| entry.map(|entry| entry.path()).map_err(named)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&[Source { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn names_a_file_and_a_function_that_are_too_long() {
        let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES_MAX));
        assert_eq!(problems("crates/a/src/b.rs", &long).len(), 1);
        assert_eq!(problems("crates/a/src/b.rs", &"\n".repeat(FILE_LINES_MAX)).len(), 0);
        assert_eq!(problems("crates/a/src/b.rs", &"\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn refuses_empty_names_and_machine_paths() {
        assert_eq!(problems("crates/a/src/utils.rs", "").len(), 1);
        assert_eq!(problems("crates/a/src/lib.rs", "mod manager;").len(), 1);
        assert_eq!(problems("docs/a.md", MACHINE_PATHS[0]).len(), 1);
        assert_eq!(problems("docs/a.md", "/workspace/main").len(), 0);
    }

    #[test]
    fn allows_unsafe_in_one_file_of_the_sandbox() {
        let launch = "crates/aegis-sandbox/src/launch.rs";
        assert_eq!(unsafe_files(&[launch]), Vec::<String>::new());
        assert_eq!(unsafe_files(&[launch, "crates/aegis-sandbox/src/other.rs"]).len(), 1);
        assert_eq!(unsafe_files(&["crates/aegis-core/src/id.rs"]).len(), 1);
    }
}
