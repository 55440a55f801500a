//! JSON Schema, graded: satisfied / (required + present values), and the paths that fail (contract, section 2).

use std::collections::BTreeSet;

use aegis_core::Score;
use serde_json::Value;

use super::Finding;
use super::candidate::json_of;

/// Deepest nesting that is graded; what lies deeper still has to be valid.
const DEPTH_MAX: usize = 64;
/// Longest value of a candidate that is shown in a message.
const VALUE_SHOWN_BYTES_MAX: usize = 100;
/// Longest path shown.
const PATH_SHOWN_CHARS_MAX: usize = 200;
/// Longest message shown.
const MESSAGE_CHARS_MAX: usize = 400;
/// Most failing paths named to the next iteration.
const PATHS_SHOWN_MAX: usize = 20;

/// A compiled schema.
pub(crate) struct Schema {
    validator: jsonschema::Validator,
    schema: Value,
}

impl Schema {
    /// Compiles a schema; it cannot reach the network or the file system.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        // Linear-time patterns only: no look-around, no back-references.
        let validator = jsonschema::options()
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(schema)
            .map_err(|error| format!("not a JSON Schema: {}", error.masked()))?;
        Ok(Self { validator, schema: schema.clone() })
    }

    /// The first violation in words, for arguments of tools.
    pub(crate) fn violation(&self, value: &Value) -> Option<String> {
        let error = self.validator.iter_errors(value).next()?;
        Some(told(&error))
    }

    /// Grades the JSON in a text; no JSON is 0.
    pub(crate) fn grade_text(&self, text: &str) -> Finding {
        match json_of(text) {
            Ok(value) => self.grade(&value),
            Err(error) => Finding::binary(false, error),
        }
    }

    /// Grades a value.
    pub(crate) fn grade(&self, value: &Value) -> Finding {
        let mut failing = BTreeSet::new();
        let mut messages = Vec::new();
        let (mut missing, mut count) = (0usize, 0usize);
        for error in self.validator.iter_errors(value) {
            let path = error.instance_path().as_str().to_owned();
            count += 1;
            if messages.len() < PATHS_SHOWN_MAX {
                messages.push(told(&error));
            }
            if error.kind().keyword() == "required" {
                missing += 1;
            } else {
                failing.insert(path);
            }
        }
        if messages.is_empty() {
            return Finding::sure(Score::ONE, "the JSON satisfies the schema");
        }
        let mut tally = Tally { required: 0, present: 0, satisfied: 0 };
        self.count(value, &self.schema, "", 0, &failing, &mut tally);
        tally.satisfied += tally.required.saturating_sub(missing);
        // A container that fails as a whole counts as a present value that is not satisfied.
        let containers =
            failing.iter().filter(|path| value.pointer(path).is_some_and(|v| v.is_object() || v.is_array()));
        let total = tally.required + tally.present + usize::from(failing.contains("") && tally.present == 0);
        let satisfied = tally.satisfied.saturating_sub(containers.count()).min(total.saturating_sub(1));
        #[expect(clippy::cast_precision_loss, reason = "counts of values in one document")]
        let score = if total == 0 { 0.0 } else { satisfied as f64 / total as f64 };
        let more = count.saturating_sub(messages.len());
        if more > 0 {
            messages.push(format!("and {more} more"));
        }
        Finding::sure(Score::from_f64(score), messages.join("; "))
    }

    fn count(
        &self,
        value: &Value,
        schema: &Value,
        path: &str,
        depth: usize,
        failing: &BTreeSet<String>,
        tally: &mut Tally,
    ) {
        if depth > DEPTH_MAX {
            return;
        }
        let schema = self.resolve(schema, depth);
        match value {
            Value::Object(fields) => {
                let required = schema.get("required").and_then(Value::as_array);
                tally.required += required.map_or(0, Vec::len);
                for (name, child) in fields {
                    let child_path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                    let child_schema = schema.get("properties").and_then(|properties| properties.get(name));
                    tally.value(&child_path, failing);
                    self.count(
                        child,
                        child_schema.unwrap_or(&Value::Null),
                        &child_path,
                        depth + 1,
                        failing,
                        tally,
                    );
                }
            }
            Value::Array(items) => {
                for (index, child) in items.iter().enumerate() {
                    let child_path = format!("{path}/{index}");
                    tally.value(&child_path, failing);
                    let child_schema = schema.get("items").unwrap_or(&Value::Null);
                    self.count(child, child_schema, &child_path, depth + 1, failing, tally);
                }
            }
            _ => {}
        }
    }

    /// Follows a reference within the document.
    fn resolve<'a>(&'a self, schema: &'a Value, depth: usize) -> &'a Value {
        let mut schema = schema;
        for _ in depth..DEPTH_MAX {
            let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'))
            else {
                return schema;
            };
            match self.schema.pointer(target) {
                Some(found) => schema = found,
                None => return schema,
            }
        }
        schema
    }
}

struct Tally {
    required: usize,
    present: usize,
    satisfied: usize,
}

impl Tally {
    fn value(&mut self, path: &str, failing: &BTreeSet<String>) {
        self.present += 1;
        self.satisfied += usize::from(!failing.contains(path));
    }
}

/// One violation in words. The candidate's own values are shown only where they are short: they may be megabytes.
fn told(error: &jsonschema::ValidationError<'_>) -> String {
    let path = clipped(shown(error.instance_path().as_str()), PATH_SHOWN_CHARS_MAX);
    let small = match error.instance().as_ref() {
        Value::String(text) => text.len() <= VALUE_SHOWN_BYTES_MAX,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => true,
    };
    let required = error.kind().keyword() == "required";
    let words = if small || required { error.to_string() } else { error.masked().to_string() };
    format!("at `{path}`: {}", clipped(&words, MESSAGE_CHARS_MAX))
}

fn clipped(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn score(schema: &Value, value: &Value) -> f64 {
        Schema::compile(schema).unwrap().grade(value).score.as_f64()
    }

    #[test]
    fn scores_are_satisfied_over_required_plus_present() {
        let schema = json!({
            "type": "object",
            "required": ["name", "age", "tags"],
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "additionalProperties": false,
        });
        for (value, expected) in [
            (json!({"name": "a", "age": 1, "tags": []}), 1.0),
            // required 3, present 2: name, age present (2 satisfied of 3), both values right.
            (json!({"name": "a", "age": 1}), 4.0 / 5.0),
            // required 3 all there; present 3, one wrong.
            (json!({"name": "a", "age": "x", "tags": []}), 5.0 / 6.0),
            // required 3 all there; present 3 + 2 items, one item wrong.
            (json!({"name": "a", "age": 1, "tags": ["x", 2]}), 7.0 / 8.0),
            (json!({}), 0.0),
            (json!("text"), 0.0),
        ] {
            assert!((score(&schema, &value) - expected).abs() < 1e-6, "{value}: {}", score(&schema, &value));
        }
    }

    #[test]
    fn what_is_not_valid_never_scores_one() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {"a": {}}});
        let graded = Schema::compile(&schema).unwrap().grade(&json!({"a": 1, "b": 2}));
        assert!(graded.score < Score::ONE, "{graded:?}");
        assert!(graded.reasoning.contains('b'));
    }

    #[test]
    fn references_are_followed_and_the_outside_is_out_of_reach() {
        let schema = json!({"$ref": "#/$defs/p", "$defs": {"p": {"type": "object", "required": ["x", "y"]}}});
        assert!((score(&schema, &json!({"x": 1})) - 2.0 / 3.0).abs() < 1e-6);
        assert!(Schema::compile(&json!({"$ref": "http://127.0.0.1:1/schema"})).is_err());
        assert!(Schema::compile(&json!({"$ref": "file:///etc/passwd"})).is_err());
    }
}
