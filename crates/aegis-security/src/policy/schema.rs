//! The words policies are written in: the Cedar schema, and the names of its types ready for use.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PolicyError;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionName {
    /// Call a tool.
    CallTool,
    /// Ask a model.
    AskModel,
    /// Ask a model to judge a candidate.
    Judge,
    /// Connect to a host.
    Connect,
    /// Have a secret injected into a call.
    UseSecret,
    /// Mount a volume.
    Mount,
}

impl ActionName {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::CallTool, Self::AskModel, Self::Judge, Self::Connect, Self::UseSecret, Self::Mount];

    /// Its name in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallTool => "call_tool",
            Self::AskModel => "ask_model",
            Self::Judge => "judge",
            Self::Connect => "connect",
            Self::UseSecret => "use_secret",
            Self::Mount => "mount",
        }
    }
    /// The type of what it is done to.
    pub(super) const fn resource(self) -> Kind {
        match self {
            Self::CallTool => Kind::Tool,
            Self::AskModel | Self::Judge => Kind::Model,
            Self::Connect => Kind::Domain,
            Self::UseSecret => Kind::Secret,
            Self::Mount => Kind::Volume,
        }
    }
}

impl std::fmt::Display for ActionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The types of entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Execution,
    Agent,
    Tenant,
    Tool,
    ToolGroup,
    Model,
    Domain,
    Path,
    Volume,
    Secret,
    Arguments,
    Numbers,
    Action,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Execution,
        Self::Agent,
        Self::Tenant,
        Self::Tool,
        Self::ToolGroup,
        Self::Model,
        Self::Domain,
        Self::Path,
        Self::Volume,
        Self::Secret,
        Self::Arguments,
        Self::Numbers,
        Self::Action,
    ];
    /// Its name in policies.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "Aegis::Execution",
            Self::Agent => "Aegis::Agent",
            Self::Tenant => "Aegis::Tenant",
            Self::Tool => "Aegis::Tool",
            Self::ToolGroup => "Aegis::ToolGroup",
            Self::Model => "Aegis::Model",
            Self::Domain => "Aegis::Domain",
            Self::Path => "Aegis::Path",
            Self::Volume => "Aegis::Volume",
            Self::Secret => "Aegis::Secret",
            Self::Arguments => "Aegis::Arguments",
            Self::Numbers => "Aegis::Numbers",
            Self::Action => "Aegis::Action",
        }
    }
}

/// The Cedar schema, as JSON. All actions share one context, so that a rule may speak of any action.
pub fn schema_json() -> Value {
    let entity = |parents: &[&str]| json!({ "memberOfTypes": parents });
    let tagged = |of: &str| json!({ "memberOfTypes": [], "tags": { "type": of } });
    let set = || json!({ "type": "Set", "element": { "type": "String" } });
    let reference =
        |name: &str, required: bool| json!({ "type": "Entity", "name": name, "required": required });
    let actions: serde_json::Map<String, Value> = ActionName::ALL
        .into_iter()
        .map(|action| {
            let resource = action.resource().as_str().trim_start_matches("Aegis::");
            let applies = json!({
                "principalTypes": ["Execution"], "resourceTypes": [resource], "context": { "type": "Context" },
            });
            (action.as_str().to_owned(), json!({ "appliesTo": applies }))
        })
        .collect();
    json!({ "Aegis": {
        "commonTypes": { "Context": { "type": "Record", "attributes": {
            "matched": set(),
            "labels": set(),
            "arguments": reference("Arguments", true),
            "numbers": reference("Numbers", true),
            "risk": { "type": "Long" },
            "time": { "type": "Long" },
            "tenant": { "type": "String" },
            "path": reference("Path", false),
            "domain": reference("Domain", false),
            "command": { "type": "String", "required": false },
        } } },
        "entityTypes": {
            "Execution": entity(&["Agent", "Tenant"]),
            "Agent": entity(&[]),
            "Tenant": entity(&[]),
            "Tool": entity(&["ToolGroup"]),
            "ToolGroup": entity(&[]),
            "Model": entity(&[]),
            "Domain": entity(&["Domain"]),
            "Path": entity(&["Path"]),
            "Volume": entity(&[]),
            "Secret": entity(&[]),
            "Arguments": tagged("String"),
            "Numbers": tagged("Long"),
        },
        "actions": actions,
    } })
}

/// The schema, compiled, and its names, read once. A question never parses a name.
pub(super) struct Vocabulary {
    validator: Validator,
    types: Vec<EntityTypeName>,
    actions: Vec<EntityUid>,
}

static VOCABULARY: LazyLock<Result<Vocabulary, String>> =
    LazyLock::new(|| Vocabulary::compile().map_err(|error| error.to_string()));

impl Vocabulary {
    /// The one vocabulary.
    pub(super) fn get() -> Result<&'static Self, PolicyError> {
        VOCABULARY.as_ref().map_err(|message| PolicyError::Schema(message.clone()))
    }
    fn compile() -> Result<Self, PolicyError> {
        let wrong = |error: &dyn std::fmt::Display| PolicyError::Schema(error.to_string());
        let schema = Schema::from_json_value(schema_json()).map_err(|error| wrong(&error))?;
        let types = Kind::ALL
            .into_iter()
            .map(|kind| EntityTypeName::from_str(kind.as_str()).map_err(|error| wrong(&error)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut vocabulary = Self { validator: Validator::new(schema), types, actions: Vec::new() };
        vocabulary.actions = ActionName::ALL
            .into_iter()
            .filter_map(|action| vocabulary.uid(Kind::Action, action.as_str()))
            .collect();
        Ok(vocabulary)
    }
    /// Checks policies against the schema.
    pub(super) fn validator(&self) -> &Validator {
        &self.validator
    }
    /// The entity of that type called `id`.
    pub(super) fn uid(&self, kind: Kind, id: &str) -> Option<EntityUid> {
        let name = self.types.get(kind as usize)?;
        Some(EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id)))
    }
    /// An action's entity.
    pub(super) fn action(&self, action: ActionName) -> Option<EntityUid> {
        self.actions.get(action as usize).cloned()
    }
    /// Whether entities are of the schema: for tests, which build questions as the hot path does.
    #[cfg(test)]
    pub(super) fn schema(&self) -> &Schema {
        self.validator.schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_compiles_and_every_name_is_its_own() {
        let vocabulary = Vocabulary::get().unwrap();
        for kind in Kind::ALL {
            let uid = vocabulary.uid(kind, "x").unwrap();
            assert_eq!(uid.type_name().to_string(), kind.as_str());
        }
        for action in ActionName::ALL {
            let uid = vocabulary.action(action).unwrap();
            assert_eq!(uid.to_string(), format!("Aegis::Action::\"{action}\""));
            assert!(vocabulary.schema().actions().any(|known| *known == uid));
            let resources: Vec<_> =
                vocabulary.schema().resources_for_action(&uid).unwrap().map(ToString::to_string).collect();
            assert_eq!(resources, [action.resource().as_str()]);
        }
    }
}
