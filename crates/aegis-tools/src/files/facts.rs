//! What the tools are called and what they take, in words small models understand.

use aegis_core::ToolSchema;
use aegis_kernel::port::{Access, Governed, GovernedKind, ToolFacts};
use aegis_security::constraint::WORKSPACE;
use serde_json::{Value, json};

use super::edit::EDITS_MAX;
use super::read::LINES_DEFAULT;
use super::search::{RESULTS_DEFAULT, RESULTS_MAX};

pub(super) fn all() -> Vec<ToolFacts> {
    vec![read(), write(), list(), create_dir(), delete(), edit(), multi_edit(), grep(), glob()]
}

fn tool(name: &str, description: &str, access: Access, idempotent: bool, parameters: Value) -> ToolFacts {
    ToolFacts {
        schema: ToolSchema { name: name.to_owned(), description: description.to_owned(), parameters },
        idempotent,
        foreign: false,
        governed: vec![Governed { argument: "path".into(), kind: GovernedKind::Path(access) }],
    }
}

fn object(properties: Value, required: &[&str], example: Value) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        "examples": [example],
    })
}

fn path(what: &str) -> Value {
    let description = format!("{what} Absolute, or relative to {WORKSPACE}.");
    json!({"type": "string", "minLength": 1, "description": description})
}

fn optional_path(what: &str) -> Value {
    let description = format!("{what} Absolute, or relative to {WORKSPACE}. Default: {WORKSPACE}.");
    json!({"type": "string", "minLength": 1, "default": WORKSPACE, "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "default": false, "description": description})
}

fn read() -> ToolFacts {
    let limit = format!("How many lines to read. Default: {LINES_DEFAULT}.");
    let properties = json!({
        "path": path("The file to read."),
        "offset": {"type": "integer", "minimum": 1, "description": "The first line to read, counted from 1. Default: 1."},
        "limit": {"type": "integer", "minimum": 1, "maximum": u32::MAX, "description": limit},
    });
    let description = "Read a text file. Gives its text as it is. Long files are cut; the end of the answer then says \
                       how to read on with offset.";
    let example = json!({"path": "src/main.py", "offset": 1, "limit": 200});
    tool("fs.read", description, Access::Read, true, object(properties, &["path"], example))
}

fn write() -> ToolFacts {
    let properties = json!({
        "path": path("The file to write."),
        "content": {"type": "string", "description": "The whole new content of the file."},
    });
    let description = "Write a file: make it, or replace its whole content. Missing folders are made. To change a part \
                       of a file, use fs.edit.";
    let example = json!({"path": "notes/todo.md", "content": "# To do\n"});
    tool("fs.write", description, Access::Write, true, object(properties, &["path", "content"], example))
}

fn list() -> ToolFacts {
    let properties = json!({
        "path": optional_path("The folder to list."),
        "recursive": flag("Also list everything in the folders below."),
    });
    let description = "List a folder: one entry a line, folders end in /, files with their size in bytes.";
    let example = json!({"path": "src", "recursive": true});
    tool("fs.list", description, Access::Read, true, object(properties, &[], example))
}

fn create_dir() -> ToolFacts {
    let properties = json!({"path": path("The folder to make.")});
    let description =
        "Make a folder, and the folders above it that are missing. It is fine if it is there already.";
    let example = json!({"path": "src/data"});
    tool("fs.create_dir", description, Access::Write, true, object(properties, &["path"], example))
}

fn delete() -> ToolFacts {
    let properties = json!({
        "path": path("The file or folder to delete."),
        "recursive": flag("Delete a folder with everything in it."),
    });
    let description = "Delete a file, or a folder. A folder that is not empty needs recursive: true.";
    let example = json!({"path": "old.txt"});
    tool("fs.delete", description, Access::Write, true, object(properties, &["path"], example))
}

/// The properties of one replacement.
fn replacement() -> Value {
    json!({
        "old_string": {"type": "string", "minLength": 1, "description": "The text to replace, exactly as it stands in the file, with its white space. It must occur once, unless replace_all is true."},
        "new_string": {"type": "string", "description": "The text to put there instead."},
        "replace_all": flag("Replace every occurrence of old_string."),
    })
}

fn edit() -> ToolFacts {
    let mut properties = replacement();
    if let Value::Object(properties) = &mut properties {
        properties.insert("path".to_owned(), path("The file to change."));
    }
    let description = "Change a part of a text file: replace old_string by new_string. Read the file first. If \
                       old_string occurs more than once, add the lines around it until it is unique.";
    let required = &["path", "old_string", "new_string"];
    let example = json!({"path": "src/main.py", "old_string": "x = 1\n", "new_string": "x = 2\n"});
    tool("fs.edit", description, Access::Write, false, object(properties, required, example))
}

fn multi_edit() -> ToolFacts {
    let properties = json!({
        "path": path("The file to change."),
        "edits": {
            "type": "array",
            "minItems": 1,
            "maxItems": EDITS_MAX,
            "description": "The replacements, made one after another, each on the result of the one before.",
            "items": {
                "type": "object",
                "properties": replacement(),
                "required": ["old_string", "new_string"],
                "additionalProperties": false,
            },
        },
    });
    let description = "Change several parts of one text file at once. All edits are made, or none if one of them does \
                       not fit.";
    let example = json!({
        "path": "src/main.py",
        "edits": [
            {"old_string": "x = 1\n", "new_string": "x = 2\n"},
            {"old_string": "foo", "new_string": "bar", "replace_all": true},
        ],
    });
    tool("fs.multi_edit", description, Access::Write, false, object(properties, &["path", "edits"], example))
}

fn grep() -> ToolFacts {
    let max_results = format!("Most lines to give. Default: {RESULTS_DEFAULT}.");
    let properties = json!({
        "pattern": {"type": "string", "minLength": 1, "description": "A regular expression, matched line by line. No look-around and no back-references."},
        "path": optional_path("The file or folder to search."),
        "glob": {"type": "string", "minLength": 1, "description": "Search only files that match, such as *.py or src/**/*.rs."},
        "max_results": {"type": "integer", "minimum": 1, "maximum": RESULTS_MAX, "description": max_results},
    });
    let description = "Search the content of files for a regular expression. Gives path:line:text for each line that \
                       matches.";
    let example = json!({"pattern": "def \\w+", "path": "src", "glob": "*.py"});
    tool("fs.grep", description, Access::Read, true, object(properties, &["pattern"], example))
}

fn glob() -> ToolFacts {
    let properties = json!({
        "pattern": {"type": "string", "minLength": 1, "description": "Such as **/*.py for all Python files, or src/*.md. * stays within one folder, ** goes through all below."},
        "path": optional_path("The folder to look in."),
    });
    let description = "Find files by name. Gives one path a line.";
    let example = json!({"pattern": "**/*.py"});
    tool("fs.glob", description, Access::Read, true, object(properties, &["pattern"], example))
}
