//! Commands of validators: argument vectors.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A command as an argument vector; never a shell's. Written as a list, or as a string of plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CommandLine(Vec<String>);

/// A string that only a shell could take apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing to run.
    #[error("the command is empty")]
    Empty,
    /// Quotes, variables, pipes and the like.
    #[error(
        "`{0}` needs a shell, and commands are never given to one: write a list of program and arguments"
    )]
    Shell(String),
}

impl CommandLine {
    /// From program and arguments.
    pub fn new(arguments: Vec<String>) -> Result<Self, CommandError> {
        if arguments.first().is_none_or(String::is_empty) {
            Err(CommandError::Empty)
        } else {
            Ok(Self(arguments))
        }
    }
    /// Program and arguments; never empty.
    pub fn arguments(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for CommandLine {
    type Err = CommandError;
    fn from_str(text: &str) -> Result<Self, CommandError> {
        const SHELL: &[char] =
            &['"', '\'', '\\', '$', '`', '|', '&', ';', '<', '>', '(', ')', '*', '?', '#', '~', '\n'];
        if text.contains(SHELL) {
            return Err(CommandError::Shell(text.to_owned()));
        }
        Self::new(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            List(Vec<String>),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => text.parse(),
            Form::List(arguments) => Self::new(arguments),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for CommandLine {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "CommandLine".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Program and arguments, as a list or as a string of plain words; never a shell's.",
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                { "type": "string", "format": "command" },
            ],
        })
    }
}
