//! The arguments of the tools, typed. The schemas in `facts` say the same to models.

use std::num::{NonZeroU32, NonZeroU64};

use aegis_security::constraint::WORKSPACE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The arguments of one call.
pub(super) enum Arguments {
    Read(Read),
    Write(Write),
    List(List),
    CreateDir(CreateDir),
    Delete(Delete),
    Edit(Edit),
    MultiEdit(MultiEdit),
    Grep(Grep),
    Glob(Glob),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    pub(super) path: String,
    pub(super) offset: Option<NonZeroU64>,
    pub(super) limit: Option<NonZeroU32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    pub(super) path: String,
    pub(super) content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(default = "workspace")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) recursive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateDir {
    pub(super) path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    pub(super) path: String,
    #[serde(default)]
    pub(super) recursive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    pub(super) path: String,
    pub(super) old_string: String,
    pub(super) new_string: String,
    #[serde(default)]
    pub(super) replace_all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MultiEdit {
    pub(super) path: String,
    pub(super) edits: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replacement {
    pub(super) old_string: String,
    pub(super) new_string: String,
    #[serde(default)]
    pub(super) replace_all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grep {
    pub(super) pattern: String,
    #[serde(default = "workspace")]
    pub(super) path: String,
    pub(super) glob: Option<String>,
    pub(super) max_results: Option<NonZeroU32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Glob {
    pub(super) pattern: String,
    #[serde(default = "workspace")]
    pub(super) path: String,
}

fn workspace() -> String {
    WORKSPACE.to_owned()
}

impl Arguments {
    /// Reads the arguments of the tool called `name`; else a sentence for the model.
    pub(super) fn parse(name: &str, arguments: &Value) -> Result<Self, String> {
        fn typed<T: DeserializeOwned>(name: &str, arguments: &Value) -> Result<T, String> {
            T::deserialize(arguments).map_err(|error| format!("the arguments of `{name}` are wrong: {error}"))
        }
        Ok(match name {
            "fs.read" => Self::Read(typed(name, arguments)?),
            "fs.write" => Self::Write(typed(name, arguments)?),
            "fs.list" => Self::List(typed(name, arguments)?),
            "fs.create_dir" => Self::CreateDir(typed(name, arguments)?),
            "fs.delete" => Self::Delete(typed(name, arguments)?),
            "fs.edit" => Self::Edit(typed(name, arguments)?),
            "fs.multi_edit" => Self::MultiEdit(typed(name, arguments)?),
            "fs.grep" => Self::Grep(typed(name, arguments)?),
            "fs.glob" => Self::Glob(typed(name, arguments)?),
            _ => return Err(format!("there is no tool `{name}` here")),
        })
    }
    /// Whether the call changes files, so that it must not be abandoned half-way.
    pub(super) fn changes_files(&self) -> bool {
        match self {
            Self::Write(_) | Self::CreateDir(_) | Self::Delete(_) | Self::Edit(_) | Self::MultiEdit(_) => {
                true
            }
            Self::Read(_) | Self::List(_) | Self::Grep(_) | Self::Glob(_) => false,
        }
    }
}
