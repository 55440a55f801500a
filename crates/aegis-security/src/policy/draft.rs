//! Rules on their way to Cedar: built as its JSON, never as text.

use serde_json::{Map, Value, json};

use super::schema::{ActionName, Kind};
use crate::constraint::{DomainPattern, ToolPattern};

/// What a rule is about.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    Any,
    Is(Kind, String),
    In(Kind, String),
}

impl Scope {
    /// The tools a pattern means.
    pub(super) fn tools(pattern: &ToolPattern) -> Self {
        match pattern {
            ToolPattern::Name(name) => Self::Is(Kind::Tool, name.clone()),
            ToolPattern::Below(_) | ToolPattern::All => Self::In(Kind::ToolGroup, pattern.to_string()),
        }
    }
    fn to_json(&self) -> Value {
        match self {
            Self::Any => json!({ "op": "All" }),
            Self::Is(kind, id) => json!({ "op": "==", "entity": entity(*kind, id) }),
            Self::In(kind, id) => json!({ "op": "in", "entity": entity(*kind, id) }),
        }
    }
    /// The same as an expression about the resource.
    fn to_expression(&self) -> Value {
        match self {
            Self::Any => json!({ "Value": true }),
            Self::Is(kind, id) => binary("==", json!({ "Var": "resource" }), literal(*kind, id)),
            Self::In(kind, id) => binary("in", json!({ "Var": "resource" }), literal(*kind, id)),
        }
    }
}

fn entity(kind: Kind, id: &str) -> Value {
    json!({ "type": kind.as_str(), "id": id })
}

fn literal(kind: Kind, id: &str) -> Value {
    json!({ "Value": { "__entity": entity(kind, id) } })
}

fn binary(operator: &str, left: Value, right: Value) -> Value {
    let operands = json!({ "left": left, "right": right });
    Value::Object(Map::from_iter([(operator.to_owned(), operands)]))
}

fn of_context(attribute: &str) -> Value {
    json!({ ".": { "left": { "Var": "context" }, "attr": attribute } })
}

/// A rule, not yet compiled.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// `KIND:INDEX`, unique in its layer.
    pub(super) id: String,
    effect: &'static str,
    pub(super) ask: Option<String>,
    action: Option<ActionName>,
    resource: Scope,
    conditions: Vec<Value>,
    /// What it says, for people.
    pub(super) says: String,
    /// What would turn its denial, or the lack of its permit, into a permit.
    pub(super) remedy: String,
}

impl Draft {
    pub(super) fn permit(id: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            effect: "permit",
            ask: None,
            action: None,
            resource: Scope::Any,
            conditions: Vec::new(),
            says: says.into(),
            remedy: String::new(),
        }
    }
    pub(super) fn forbid(id: impl Into<String>, says: impl Into<String>) -> Self {
        Self { effect: "forbid", ..Self::permit(id, says) }
    }
    pub(super) fn on(mut self, action: ActionName, resource: Scope) -> Self {
        (self.action, self.resource) = (Some(action), resource);
        self
    }
    pub(super) fn asking(mut self, question: impl Into<String>) -> Self {
        self.ask = Some(question.into());
        self
    }
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
    fn condition(mut self, kind: &str, body: &Value) -> Self {
        self.conditions.push(json!({ "kind": kind, "body": body }));
        self
    }
    /// Only when the monitor found the constraints of `rule` to hold.
    pub(super) fn when_matched(self, rule: &str) -> Self {
        let body = binary("contains", of_context("matched"), json!({ "Value": rule }));
        self.condition("when", &body)
    }
    /// Only above a risk, in thousandths.
    pub(super) fn when_risk_above(self, thousandths: i64) -> Self {
        let body = binary(">", of_context("risk"), json!({ "Value": thousandths }));
        self.condition("when", &body)
    }
    /// Not for what another scope is about.
    pub(super) fn unless_resource(self, scope: &Scope) -> Self {
        self.condition("unless", &scope.to_expression())
    }
    /// About connecting to the hosts a pattern means.
    pub(super) fn on_domains(self, pattern: &DomainPattern) -> Self {
        match pattern {
            DomainPattern::Host(host) => self.on(ActionName::Connect, Scope::Is(Kind::Domain, host.clone())),
            DomainPattern::Below(suffix) => {
                // A domain's own name is not below it.
                let name = suffix.trim_start_matches('.').to_owned();
                self.on(ActionName::Connect, Scope::In(Kind::Domain, name.clone()))
                    .unless_resource(&Scope::Is(Kind::Domain, name))
            }
        }
    }
    /// The policy in Cedar's JSON.
    pub(super) fn to_json(&self) -> Value {
        let action = self.action.map_or_else(
            || json!({ "op": "All" }),
            |action| json!({ "op": "==", "entity": entity(Kind::Action, action.as_str()) }),
        );
        let mut policy = json!({
            "effect": self.effect,
            "principal": { "op": "All" },
            "action": action,
            "resource": self.resource.to_json(),
            "conditions": self.conditions,
        });
        if let (Some(question), Some(fields)) = (&self.ask, policy.as_object_mut()) {
            fields.insert("annotations".to_owned(), json!({ "ask": question }));
        }
        policy
    }
}
