//! What a rule looks at, so that nothing else is prepared for it.

use serde_json::{Map, Value};

/// Which costly parts of the context rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Uses {
    /// The texts or numbers of the arguments.
    pub(super) arguments: bool,
    /// The governed values: then there is one evaluation for each.
    pub(super) values: bool,
}

impl Uses {
    /// What a policy in Cedar's JSON looks at.
    pub(super) fn of(policy: &Value) -> Self {
        let mut seen = Seen::default();
        seen.walk(policy);
        // The context as a whole, compared or put into a set, shows everything.
        let whole = seen.contexts > seen.attributes;
        Self { arguments: whole || seen.arguments, values: whole || seen.values }
    }
    pub(super) fn join(&mut self, other: Self) {
        self.arguments |= other.arguments;
        self.values |= other.values;
    }
}

#[derive(Default)]
struct Seen {
    /// How often the context is named.
    contexts: usize,
    /// How often an attribute of it is.
    attributes: usize,
    arguments: bool,
    values: bool,
}

impl Seen {
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => self.object(fields),
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }
    fn object(&mut self, fields: &Map<String, Value>) {
        if is_context(fields.get("Var")) {
            self.contexts += 1;
        }
        for operator in [".", "has"] {
            let Some(access) = fields.get(operator) else { continue };
            if is_context(access.get("left").and_then(|left| left.get("Var"))) {
                self.attributes += 1;
                match access.get("attr").and_then(Value::as_str) {
                    Some("arguments" | "numbers") => self.arguments = true,
                    Some("path" | "domain" | "command") => self.values = true,
                    Some(_) => {}
                    // A spelling of the access that is not known here: prepare everything.
                    None => (self.arguments, self.values) = (true, true),
                }
            }
        }
        fields.values().for_each(|field| self.walk(field));
    }
}

fn is_context(variable: Option<&Value>) -> bool {
    variable.and_then(Value::as_str) == Some("context")
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    #[test]
    fn what_a_condition_reads_is_seen() {
        for (condition, arguments, values) in [
            ("context.risk > 3", false, false),
            ("context has labels", false, false),
            ("context.arguments.hasTag(\"x\")", true, false),
            ("principal == resource || context[\"numbers\"].hasTag(\"x\")", true, false),
            ("context has path", false, true),
            ("context has domain && true", false, true),
            ("[context.command].contains(\"x\")", false, true),
            ("resource.path == 3", false, false),
            ("{\"path\": 3}.path == 3", false, false),
            ("context has path.x", true, true),
            ("context == {}", true, true),
            ("[context].contains({}) && context.risk > 3", true, true),
            ("(if true then context else context).risk == 3", true, true),
        ] {
            let text = format!("permit(principal, action, resource) when {{ {condition} }};");
            let policy = Policy::parse(None, text).unwrap().to_json().unwrap();
            assert_eq!(Uses::of(&policy), Uses { arguments, values }, "{condition}");
        }
    }

    #[test]
    fn what_one_rule_reads_the_layer_reads() {
        let (arguments, values) =
            (Uses { arguments: true, values: false }, Uses { arguments: false, values: true });
        let mut uses = Uses::default();
        uses.join(arguments);
        assert_eq!(uses, arguments);
        uses.join(values);
        uses.join(Uses::default());
        assert_eq!(uses, Uses { arguments: true, values: true });
    }
}
