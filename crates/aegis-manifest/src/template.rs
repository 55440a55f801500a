//! Prompt templates: MiniJinja, with the documented Handlebars forms translated to it.
//!
//! A template has expressions, `if`, `for` and a closed set of filters. It cannot build new texts or lists, include,
//! define or call out; so its steps are bounded by fuel and its memory by the bytes it may write. What is put in is
//! never read as a template again.

mod guard;
mod handlebars;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::limits::{DOCUMENT_BYTES_MAX, PROMPT_BYTES_MAX};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

/// The template of agents without one.
pub const DEFAULT: &str = "{{instruction}}\n\nUser: {{input}}";

/// Most steps of one rendering.
const FUEL: u64 = 500_000;
/// Most nested calls of the engine.
const RECURSION_MAX: usize = 32;

/// A template that does not compile, or a rendering beyond its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not a template.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line within the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Something a template cannot do here.
    #[error("line {line}: {what} is not available in templates")]
    NotAvailable {
        /// The line within the template, from 1.
        line: usize,
        /// What was asked for.
        what: String,
    },
    /// More bytes than a prompt may have.
    #[error("the rendered prompt has more than {PROMPT_BYTES_MAX} bytes")]
    TooLarge,
    /// More steps than a rendering may take.
    #[error("the template takes more than {FUEL} steps")]
    TooManySteps,
    /// An operation failed on the values at hand.
    #[error("line {line}: {message}")]
    Value {
        /// The line within the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// A rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Names that were used and are not defined, in alphabetical order; each was taken as empty.
    pub undefined: Vec<String>,
}

/// Renders a template. A name that is not in `names` is empty, and reported.
pub fn render(
    template: &str,
    names: &BTreeMap<String, serde_json::Value>,
) -> Result<Rendered, TemplateError> {
    let source = translated(template)?;
    let environment = environment();
    let compiled = environment.template_from_str(&source).map_err(|error| failure(&error))?;
    let values = names.iter().map(|(name, value)| (name.clone(), engine_value(value))).collect();
    let names = Arc::new(Names { values, undefined: Mutex::default() });
    let mut text = Limited(Vec::new());
    compiled
        .render_captured_to(Value::from_dyn_object(Arc::clone(&names)), &mut text)
        .map_err(|error| failure(&error))?;
    let undefined = names.undefined.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Rendered {
        text: String::from_utf8_lossy(&text.0).into_owned(),
        undefined: undefined.iter().cloned().collect(),
    })
}

/// Whether a template compiles.
pub fn check(template: &str) -> Result<(), TemplateError> {
    let source = translated(template)?;
    environment().template_from_str(&source).map(drop).map_err(|error| failure(&error))
}

fn translated(template: &str) -> Result<String, TemplateError> {
    if template.len() > DOCUMENT_BYTES_MAX {
        return Err(TemplateError::TooLarge);
    }
    let source = handlebars::translate(template)?;
    guard::check(&source)?;
    Ok(source)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, _, value| {
        out.write_str(&printed(value)?).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.add_filter("json", json);
    environment.add_filter("length", length);
    environment.add_filter("upper", |text: &Value| printed(text).map(|text| text.to_uppercase()));
    environment.add_filter("lower", |text: &Value| printed(text).map(|text| text.to_lowercase()));
    environment.add_filter("trim", |text: &Value| printed(text).map(|text| text.trim().to_owned()));
    environment.add_filter("first_line", |text: &Value| {
        printed(text).map(|text| text.lines().next().unwrap_or_default().to_owned())
    });
    environment.add_filter("default", |value: Value, other: Option<Value>| {
        let absent = value.is_undefined() || value.is_none() || value.as_str() == Some("");
        if absent { other.unwrap_or_else(|| Value::from("")) } else { value }
    });
    environment.add_filter("values", values);
    environment.add_test("defined", |value: &Value| !value.is_undefined());
    environment.add_test("undefined", |value: &Value| value.is_undefined());
    environment.add_test("none", |value: &Value| value.is_none());
    environment
}

/// A JSON value as the engine holds it.
fn engine_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(engine_value).collect(),
        serde_json::Value::Object(map) => {
            Value::from_pairs(map.iter().map(|(name, value)| (name.as_str(), engine_value(value))))
        }
    }
}

/// A value as JSON, in one line.
fn json(value: &Value) -> Result<String, Error> {
    let mut out = Limited(Vec::new());
    let failed = |error: serde_json::Error| Error::new(ErrorKind::WriteFailure, error.to_string());
    if value.is_undefined() {
        return Ok("null".to_owned());
    }
    serde_json::to_writer(&mut out, value).map_err(failed)?;
    Ok(String::from_utf8_lossy(&out.0).into_owned())
}

/// Characters of a text, items of a list or mapping; 0 for nothing.
fn length(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.len().unwrap_or(0), |text| text.chars().count())
}

/// What a value prints as: a text as it is, nothing as nothing, all else as JSON.
fn printed(value: &Value) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    value.as_str().map_or_else(|| json(value), |text| Ok(text.to_owned()))
}

/// What `{{#each}}` goes over: the items of a list, the values of a mapping, nothing else.
fn values(value: Value) -> Vec<Value> {
    match value.kind() {
        ValueKind::Map => value
            .try_iter()
            .map(|keys| keys.filter_map(|key| value.get_item(&key).ok()).collect())
            .unwrap_or_default(),
        ValueKind::Seq | ValueKind::Iterable => value.try_iter().map(Iterator::collect).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The names of a rendering; remembers which were asked for and are not there.
#[derive(Debug)]
struct Names {
    values: BTreeMap<String, Value>,
    undefined: Mutex<BTreeSet<String>>,
}

impl Object for Names {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let value = self.values.get(name).cloned();
        if value.is_none() {
            self.undefined.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        }
        value
    }
}

/// A text that may not grow beyond a prompt's size.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PROMPT_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(error: &Error) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::TooManySteps,
        ErrorKind::WriteFailure => TemplateError::TooLarge,
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
            TemplateError::NotAvailable { line, what: message }
        }
        ErrorKind::SyntaxError => TemplateError::Syntax { line, message },
        _ => TemplateError::Value { line, message },
    }
}
