//! What an agent is told: instruction, template, attachments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Task {
    /// The instruction; `{{instruction}}` in the template.
    pub instruction: String,
    /// The template of the prompt. Without it: the instruction, a blank line, `User: {{input}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "template"))]
    pub prompt_template: Option<String>,
    /// Input values that hold unless the execution brings others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub input_data: BTreeMap<String, serde_json::Value>,
    /// Skills whose text is given to the prompt as `{{agentskills}}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agentskills: Vec<String>,
}

/// Something attached to the prompt as `{{context}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ContextItem {
    /// Text written here.
    Text {
        /// The text.
        content: String,
        /// What it is, as a heading for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A file of the author's machine; the command line reads it and sends `content`.
    File {
        /// Its path, relative to the manifest.
        path: String,
        /// Its content, as uploaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// What it is, as a heading for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A directory of the author's machine; the command line reads it and sends `files`.
    Directory {
        /// Its path, relative to the manifest.
        path: String,
        /// Its files, as uploaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<Vec<ContextFile>>,
        /// What it is, as a heading for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A page fetched for each execution, under the agent's network rules.
    Url {
        /// Its address, `https://…`.
        url: String,
        /// What it is, as a heading for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
}

/// One uploaded file of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// Its path within the directory.
    pub path: String,
    /// Its content.
    pub content: String,
}
