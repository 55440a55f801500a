//! Checks a tree against a schema and makes plain values of it, collecting every problem.

use serde_json::{Map, Number, Value};

use super::diagnostic::{Problem, ProblemCode, nearest, quoted};
use super::form;
use super::tree::{Kind, Node};

/// The value of the tree as the schema means it; where problems are found, what could be made of it.
pub(super) fn decode(node: &Node, schema: &Value, problems: &mut Vec<Problem>) -> Value {
    Decoder { definitions: schema.get("$defs"), problems }.value(node, schema, "")
}

struct Decoder<'s, 'p> {
    definitions: Option<&'s Value>,
    problems: &'p mut Vec<Problem>,
}

impl<'s> Decoder<'s, '_> {
    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions?.get(name)).unwrap_or(schema)
    }

    fn wrong(
        &mut self,
        node: &Node,
        path: &str,
        code: ProblemCode,
        message: String,
        hint: Option<String>,
    ) -> Value {
        let problem = node.problem(code, path, message);
        self.problems.push(Problem { hint, ..problem });
        Value::Null
    }

    fn value(&mut self, node: &Node, schema: &'s Value, path: &str) -> Value {
        let schema = self.resolved(schema);
        let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        let free = alternatives.is_none() && schema.get("type").is_none() && schema.get("const").is_none();
        if free {
            return json(node);
        }
        if node.is_null() {
            let hint = "write a value or remove the line".to_owned();
            return self.wrong(
                node,
                path,
                ProblemCode::WrongType,
                "the field has no value".to_owned(),
                Some(hint),
            );
        }
        if let Some(names) = names_of(schema, alternatives) {
            return self.name(node, path, &names);
        }
        if let Some(alternatives) = alternatives {
            return self.alternative(node, alternatives, path);
        }
        let value = match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.mapping(node, schema, path),
            Some("array") => self.list(node, schema, path),
            Some("integer") => self.number(node, schema, path, true),
            Some("number") => self.number(node, schema, path, false),
            Some("boolean") => self.truth(node, path),
            _ => self.text(node, schema, path),
        };
        form::check(node, schema, path, self.problems);
        value
    }

    /// One of several names.
    fn name(&mut self, node: &Node, path: &str, names: &[&str]) -> Value {
        let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Some(text) = node.text() else {
            let message = format!("one of {listed} is expected here, not {}", node.shown());
            return self.wrong(node, path, ProblemCode::WrongType, message, None);
        };
        if names.contains(&text) {
            return Value::String(text.to_owned());
        }
        let hint = match (nearest(text, names.iter().copied()), names) {
            (_, [only]) => format!("write `{only}`"),
            (Some(near), _) => format!("did you mean `{near}`? It is one of {listed}"),
            (None, _) => format!("write one of {listed}"),
        };
        let message = format!("{} is not a value of this field", node.shown());
        self.wrong(node, path, ProblemCode::WrongValue, message, Some(hint))
    }

    /// One of several forms: told apart by `type`, or by being a text, a list or a mapping.
    fn alternative(&mut self, node: &Node, alternatives: &'s [Value], path: &str) -> Value {
        let tags: Vec<(&str, &Value)> = alternatives
            .iter()
            .map(|alternative| self.resolved(alternative))
            .filter_map(|alternative| Some((tag_of(alternative)?, alternative)))
            .collect();
        if !tags.is_empty() && tags.len() == alternatives.len() {
            return self.tagged(node, &tags, path);
        }
        let wanted = match &node.kind {
            Kind::Scalar { .. } => "string",
            Kind::List(_) => "array",
            Kind::Map(_) => "object",
        };
        let mut forms = Vec::new();
        for alternative in alternatives {
            let resolved = self.resolved(alternative);
            match resolved.get("type").and_then(Value::as_str) {
                Some(kind) if kind == wanted => return self.value(node, alternative, path),
                Some("string") => forms.push("a text"),
                Some("array") => forms.push("a list"),
                _ => forms.push("a mapping"),
            }
        }
        let message = format!("{} is expected here, not {}", forms.join(" or "), node.shown());
        self.wrong(node, path, ProblemCode::WrongType, message, None)
    }

    fn tagged(&mut self, node: &Node, tags: &[(&str, &'s Value)], path: &str) -> Value {
        if !matches!(node.kind, Kind::Map(_)) {
            let message = format!("a mapping with a `type` is expected here, not {}", node.shown());
            return self.wrong(node, path, ProblemCode::WrongType, message, None);
        }
        let names: Vec<&str> = tags.iter().map(|(tag, _)| *tag).collect();
        let Some(tag) = node.get("type") else {
            let listed = names.join("`, `");
            let hint = Some(format!("add a line `type:` with one of `{listed}`"));
            let message = "the field `type` is missing".to_owned();
            return self.wrong(node, path, ProblemCode::MissingField, message, hint);
        };
        match tags.iter().find(|(name, _)| tag.text() == Some(name)) {
            Some((_, schema)) => self.value(node, schema, path),
            None => self.name(tag, &format!("{path}.type"), &names),
        }
    }

    fn mapping(&mut self, node: &Node, schema: &'s Value, path: &str) -> Value {
        if !matches!(node.kind, Kind::Map(_)) {
            let message = format!("a mapping is expected here, not {}", node.shown());
            let kind = path.is_empty() && schema.pointer("/properties/apiVersion").is_some();
            let hint = kind.then(|| "begin with `apiVersion: 100monkeys.ai/v1`".to_owned());
            return self.wrong(node, path, ProblemCode::WrongType, message, hint);
        }
        let fields = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let mut map = Map::new();
        for (key, value) in node.entries() {
            let name = key.text().unwrap_or_default();
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let known = fields.and_then(|fields| fields.get(name));
            let value = match (known, others) {
                (Some(field), _) => self.value(value, field, &below),
                (None, Some(Value::Bool(false))) => {
                    self.unknown(key, name, &below, fields);
                    continue;
                }
                (None, Some(other)) => self.value(value, other, &below),
                (None, None) => json(value),
            };
            map.insert(name.to_owned(), value);
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str).filter(|name| node.get(name).is_none()) {
            let message = format!("the field `{name}` is missing");
            let about = fields.and_then(|fields| fields.get(name)).and_then(|field| field.get("description"));
            let hint = about.and_then(Value::as_str).map(|about| format!("`{name}`: {}", first_line(about)));
            self.wrong(node, path, ProblemCode::MissingField, message, hint);
        }
        Value::Object(map)
    }

    fn unknown(&mut self, key: &Node, name: &str, path: &str, fields: Option<&Map<String, Value>>) {
        let known: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "no fields are known here".to_owned(),
            None => format!("known fields are `{}`", known.join("`, `")),
        };
        let message = format!("unknown field {}", quoted(name));
        self.wrong(key, path, ProblemCode::UnknownField, message, Some(hint));
    }

    fn list(&mut self, node: &Node, schema: &'s Value, path: &str) -> Value {
        if !matches!(node.kind, Kind::List(_)) {
            let message = format!("a list is expected here, not {}", node.shown());
            let hint = "begin each item with `- `".to_owned();
            return self.wrong(node, path, ProblemCode::WrongType, message, Some(hint));
        }
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (node.items().len() as u64) < least {
            let message = format!("the list needs at least {least} item");
            self.wrong(node, path, ProblemCode::WrongValue, message, None);
        }
        let items = schema.get("items").unwrap_or(&Value::Bool(true));
        let indexed = node.items().iter().enumerate();
        Value::Array(indexed.map(|(i, item)| self.value(item, items, &format!("{path}[{i}]"))).collect())
    }

    fn number(&mut self, node: &Node, schema: &Value, path: &str, whole: bool) -> Value {
        let what = if whole { "a whole number" } else { "a number" };
        let number = match &node.kind {
            Kind::Scalar { text, plain, written } if *plain || written.is_some() => {
                number_of(text).filter(|n| !whole || !n.is_f64())
            }
            _ => None,
        };
        let Some(number) = number else {
            let quotes =
                matches!(&node.kind, Kind::Scalar { text, plain: false, .. } if number_of(text).is_some());
            let hint = quotes.then(|| "remove the quotes".to_owned());
            let message = format!("{what} is expected here, not {}", node.shown());
            return self.wrong(node, path, ProblemCode::WrongType, message, hint);
        };
        let widest = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(f64::from(u32::MAX)),
            Some("int32") => Some(f64::from(i32::MAX)),
            _ => None,
        };
        let least = schema.get("minimum").and_then(Value::as_f64);
        let most = schema.get("maximum").and_then(Value::as_f64).or(widest);
        let is = number.as_f64().unwrap_or(f64::NAN);
        if least.is_some_and(|least| is < least) || most.is_some_and(|most| is > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                (Some(least), None) => format!("of at least {least}"),
                (_, most) => format!("of at most {}", most.unwrap_or_default()),
            };
            let message = format!("{} is out of range", node.shown());
            return self.wrong(
                node,
                path,
                ProblemCode::WrongValue,
                message,
                Some(format!("write {what} {range}")),
            );
        }
        Value::Number(number)
    }

    fn truth(&mut self, node: &Node, path: &str) -> Value {
        if let Kind::Scalar { text, plain, written } = &node.kind
            && (*plain || written.is_some())
            && let Some(truth) = truth_of(text)
        {
            return Value::Bool(truth);
        }
        let message = format!("`true` or `false` is expected here, not {}", node.shown());
        self.wrong(node, path, ProblemCode::WrongType, message, None)
    }

    /// Any scalar is a text: what stands without quotes keeps its characters, so `3.10` stays `3.10`.
    fn text(&mut self, node: &Node, schema: &Value, path: &str) -> Value {
        match node.text() {
            Some(text) => {
                if text.is_empty() && schema.get("minLength").is_some() {
                    self.wrong(node, path, ProblemCode::WrongValue, "the text is empty".to_owned(), None);
                }
                Value::String(text.to_owned())
            }
            None => {
                let message = format!("a text is expected here, not {}", node.shown());
                self.wrong(node, path, ProblemCode::WrongType, message, None)
            }
        }
    }
}

/// A value that is not AEGIS's to check: YAML's own types.
fn json(node: &Node) -> Value {
    match &node.kind {
        _ if node.is_null() => Value::Null,
        Kind::Scalar { text, plain: false, .. } => Value::String(text.clone()),
        Kind::Scalar { text, .. } => match (truth_of(text), number_of(text)) {
            (Some(truth), _) => Value::Bool(truth),
            (_, Some(number)) => Value::Number(number),
            _ => Value::String(text.clone()),
        },
        Kind::List(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Map(entries) => {
            let entry =
                |(key, value): &(Node, Node)| (key.text().unwrap_or_default().to_owned(), json(value));
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}

/// The names an enumeration permits.
fn names_of<'s>(schema: &'s Value, alternatives: Option<&'s Vec<Value>>) -> Option<Vec<&'s str>> {
    if let Some(only) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![only]);
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return names.iter().map(Value::as_str).collect();
    }
    alternatives?
        .iter()
        .map(|alternative| names_of(alternative, None))
        .collect::<Option<Vec<_>>>()
        .map(|lists| lists.concat())
}

/// The value of `type` that an alternative asks for.
fn tag_of(schema: &Value) -> Option<&str> {
    schema.get("properties")?.get("type")?.get("const")?.as_str()
}

pub(super) fn truth_of(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A number of YAML's core schema, without its octal, hexadecimal, infinite and not-a-number forms.
pub(super) fn number_of(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if !unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = plain.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = plain.parse::<u64>() {
        return Some(number.into());
    }
    plain.parse::<f64>().ok().and_then(Number::from_f64)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
