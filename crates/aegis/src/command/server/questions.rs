//! What a tool's server asks of a person while the tool is called: asked at the terminal, or answered without one.

use std::io::{BufRead, IsTerminal as _, Write};

use aegis_api::{ToolQuestion, printable_line, printable_text};
use serde_json::{Map, Value, json};

/// How often a field is asked for before the question is given up.
const TRIES_MAX: usize = 5;
/// Most fields of a form that are asked for.
const FIELDS_MAX: usize = 64;

/// The answer to a question.
pub(super) fn answer(asked: &ToolQuestion, accept_defaults: bool) -> Value {
    // What has no form is a page to open: nobody agrees to that unseen.
    if asked.method != "elicitation/create" || asked.params.get("requestedSchema").is_none() {
        return json!({"action": "decline"});
    }
    let form = Form::of(&asked.params);
    if accept_defaults {
        return form.defaults().map_or_else(|| json!({"action": "decline"}), accept);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return json!({"action": "decline"});
    }
    form.ask(&asked.server, &mut std::io::stdin().lock(), &mut std::io::stderr())
}

fn accept(content: Map<String, Value>) -> Value {
    json!({"action": "accept", "content": content})
}

/// A form that a server wants filled in. All of it is foreign text.
struct Form<'a> {
    message: &'a str,
    fields: Vec<Field<'a>>,
}

/// A field of a form.
struct Field<'a> {
    name: &'a str,
    schema: &'a Value,
    required: bool,
}

/// What came of asking for a field.
enum Typed {
    Value(Value),
    LeftOut,
    Cancelled,
}

impl<'a> Form<'a> {
    fn of(params: &'a Value) -> Self {
        let required = params.pointer("/requestedSchema/required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        let properties = params.pointer("/requestedSchema/properties").and_then(Value::as_object);
        let fields = properties.into_iter().flatten().take(FIELDS_MAX);
        let fields = fields.map(|(name, schema)| Field { name, schema, required: is_required(name) });
        let message = params.get("message").and_then(Value::as_str).unwrap_or_default();
        Self { message, fields: fields.collect() }
    }

    /// What the form says by itself; none if it leaves something open.
    fn defaults(&self) -> Option<Map<String, Value>> {
        let mut content = Map::new();
        for field in &self.fields {
            match field.schema.get("default") {
                Some(default) => drop(content.insert(field.name.to_owned(), default.clone())),
                None if field.required => return None,
                None => {}
            }
        }
        Some(content)
    }

    /// Asks a person. What cannot be read or written cancels.
    fn ask(&self, server: &str, input: &mut impl BufRead, out: &mut impl Write) -> Value {
        self.try_ask(server, input, out).unwrap_or_else(|_| json!({"action": "cancel"}))
    }

    fn try_ask(
        &self,
        server: &str,
        input: &mut impl BufRead,
        out: &mut impl Write,
    ) -> std::io::Result<Value> {
        writeln!(out, "The tool server `{}` asks, and will read your answer:", printable_line(server))?;
        for line in printable_text(self.message).lines() {
            writeln!(out, "  | {line}")?;
        }
        for _ in 0..TRIES_MAX {
            write!(out, "Answer? [y]es, [d]ecline, [c]ancel: ")?;
            out.flush()?;
            match line(input)?.as_deref() {
                Some("y" | "yes") => return self.fill(input, out),
                Some("d" | "decline" | "n" | "no") => return Ok(json!({"action": "decline"})),
                Some("c" | "cancel") | None => break,
                Some(_) => {}
            }
        }
        Ok(json!({"action": "cancel"}))
    }

    fn fill(&self, input: &mut impl BufRead, out: &mut impl Write) -> std::io::Result<Value> {
        let mut content = Map::new();
        for field in &self.fields {
            match field.ask(input, out)? {
                Typed::Value(value) => drop(content.insert(field.name.to_owned(), value)),
                Typed::LeftOut => {}
                Typed::Cancelled => return Ok(json!({"action": "cancel"})),
            }
        }
        Ok(accept(content))
    }
}

impl Field<'_> {
    fn ask(&self, input: &mut impl BufRead, out: &mut impl Write) -> std::io::Result<Typed> {
        let text = |name: &str| self.schema.get(name).and_then(Value::as_str);
        let title = text("title").unwrap_or(self.name);
        let about = text("description").map(|about| format!(": {}", printable_line(about)));
        writeln!(out, "{}{}", printable_line(title), about.unwrap_or_default())?;
        for (value, title) in self.choices() {
            let title = title.map(|title| format!(" ({})", printable_line(title)));
            writeln!(out, "  - {}{}", printable_line(value), title.unwrap_or_default())?;
        }
        let default = self.schema.get("default");
        let hint = match default {
            Some(default) => format!(" [{}]", printable_line(&shown(default))),
            None if self.required => String::new(),
            None => " [left out]".to_owned(),
        };
        for _ in 0..TRIES_MAX {
            write!(out, "  {}{hint} > ", self.kind())?;
            out.flush()?;
            let Some(typed) = line(input)? else { return Ok(Typed::Cancelled) };
            if typed.is_empty() {
                match default {
                    Some(default) => return Ok(Typed::Value(default.clone())),
                    None if !self.required => return Ok(Typed::LeftOut),
                    None => writeln!(out, "  It cannot be left out.")?,
                }
            } else {
                match self.parse(&typed) {
                    Some(value) => return Ok(Typed::Value(value)),
                    None => writeln!(out, "  That does not fit.")?,
                }
            }
        }
        Ok(Typed::Cancelled)
    }

    fn schema_type(&self) -> &str {
        self.schema.get("type").and_then(Value::as_str).unwrap_or("string")
    }

    fn kind(&self) -> &'static str {
        match self.schema_type() {
            "integer" => "whole number",
            "number" => "number",
            "boolean" => "yes or no",
            "array" => "some, with commas between",
            _ if self.choices().is_empty() => "text",
            _ => "one of these",
        }
    }

    /// What may be chosen, with its titles, if the field is a choice.
    fn choices(&self) -> Vec<(&str, Option<&str>)> {
        let place = if self.schema_type() == "array" { self.schema.get("items") } else { Some(self.schema) };
        let Some(place) = place else { return Vec::new() };
        let list = |name: &str| place.get(name).and_then(Value::as_array);
        if let Some(values) = list("enum") {
            let titles = list("enumNames");
            let title = |index: usize| titles.and_then(|titles| titles.get(index)?.as_str());
            let values = values.iter().enumerate();
            return values.filter_map(|(index, value)| Some((value.as_str()?, title(index)))).collect();
        }
        let options = list("oneOf").or_else(|| list("anyOf")).into_iter().flatten();
        options
            .filter_map(|option| {
                Some((option.get("const")?.as_str()?, option.get("title").and_then(Value::as_str)))
            })
            .collect()
    }

    fn parse(&self, typed: &str) -> Option<Value> {
        let choices = self.choices();
        let fits = |text: &str| choices.is_empty() || choices.iter().any(|(value, _)| *value == text);
        match self.schema_type() {
            "integer" => typed.parse::<i64>().ok().map(Value::from),
            "number" => typed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            "boolean" => match typed {
                "y" | "yes" | "true" => Some(Value::Bool(true)),
                "n" | "no" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
            "array" => {
                let parts: Vec<&str> =
                    typed.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
                parts.iter().all(|part| fits(part)).then(|| json!(parts))
            }
            _ => fits(typed).then(|| Value::from(typed)),
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A line without its end; none at the end of the input.
fn line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = input.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Value {
        json!({"message": "Who \u{1b}[31mare you?", "requestedSchema": {"type": "object", "properties": {
            "age": {"type": "integer"},
            "name": {"type": "string", "description": "Your name", "default": "John Doe"},
            "ok": {"type": "boolean", "default": true},
            "size": {"type": "string", "enum": ["s", "l"], "enumNames": ["Small", "Large"]},
            "tags": {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]}},
        }, "required": ["age"]}})
    }

    fn typed(params: &Value, lines: &str) -> (Value, String) {
        let mut out = Vec::new();
        let answer = Form::of(params).ask("far", &mut lines.as_bytes(), &mut out);
        (answer, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_person_fills_in_a_form_and_foreign_text_stays_text() {
        let params = form();
        let (answer, shown) = typed(&params, "what\ny\n\nold\n41\nAnn\nn\nm\nl\na, b\n");
        let content = json!({"age": 41, "name": "Ann", "ok": false, "size": "l", "tags": ["a", "b"]});
        assert_eq!(answer, json!({"action": "accept", "content": content}), "{shown}");
        assert!(!shown.contains('\u{1b}') && shown.contains("are you?"), "{shown}");
        assert!(shown.contains("`far` asks") && shown.contains("l (Large)"), "{shown}");
        let (answer, _) = typed(&params, "y\n41\n\n\n\n\n");
        assert_eq!(
            answer,
            json!({"action": "accept", "content": {"age": 41, "name": "John Doe", "ok": true}})
        );
    }

    #[test]
    fn declining_cancelling_and_going_away_are_told_apart() {
        let params = form();
        assert_eq!(typed(&params, "d\n").0, json!({"action": "decline"}));
        assert_eq!(typed(&params, "c\n").0, json!({"action": "cancel"}));
        assert_eq!(typed(&params, "").0, json!({"action": "cancel"}));
        assert_eq!(typed(&params, "y\n").0, json!({"action": "cancel"}));
        assert_eq!(typed(&params, "y\nx\nx\nx\nx\nx\n").0, json!({"action": "cancel"}));
    }

    #[test]
    fn defaults_answer_only_a_form_that_leaves_nothing_open() {
        let asked = |params: Value| ToolQuestion {
            execution_id: String::new(),
            question: 1,
            server: "far".to_owned(),
            method: "elicitation/create".to_owned(),
            params,
        };
        assert_eq!(answer(&asked(form()), true), json!({"action": "decline"}), "an age is needed");
        let mut open = form();
        open["requestedSchema"]["required"] = json!([]);
        assert_eq!(
            answer(&asked(open), true),
            json!({"action": "accept", "content": {"name": "John Doe", "ok": true}})
        );
        let page = json!({"message": "Open it", "mode": "url", "url": "https://evil.example/", "elicitationId": "1"});
        assert_eq!(answer(&asked(page), true), json!({"action": "decline"}), "no page is opened unseen");
        let sampling = ToolQuestion { method: "sampling/createMessage".to_owned(), ..asked(form()) };
        assert_eq!(answer(&sampling, true), json!({"action": "decline"}));
    }
}
