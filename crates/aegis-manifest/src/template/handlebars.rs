//! The documented Handlebars forms, as MiniJinja.

use super::TemplateError;

const HELPERS: [&str; 7] = ["json", "length", "upper", "lower", "trim", "first_line", "default"];
/// Words that begin the rest of an expression, not the operand of a helper.
const WORDS: [&str; 7] = ["in", "is", "and", "or", "not", "if", "else"];

/// Translates `{{#if}}`, `{{#unless}}`, `{{#each}}`, `{{else}}`, helpers, comments and `{{{…}}}`. All else stays.
/// Lines keep their numbers.
pub(super) fn translate(template: &str) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{{").or_else(|| rest.find("{%")).map(|_| first_tag(rest)) {
        let (before, tag) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        if tag.starts_with("{%") || tag.starts_with("{#") {
            let length = jinja_length(tag);
            let (verbatim, after) = tag.split_at_checked(length).unwrap_or((tag, ""));
            out.push_str(verbatim);
            rest = after;
            continue;
        }
        let line = 1 + out.matches('\n').count();
        rest = one_tag(tag, line, &mut out)?;
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the next `{{`, `{%` or `{#` begins.
fn first_tag(text: &str) -> usize {
    ["{{", "{%", "{#"].iter().filter_map(|open| text.find(open)).min().unwrap_or(text.len())
}

/// The bytes of a `{% … %}`, a whole `{% raw %} … {% endraw %}`, or a comment.
fn jinja_length(tag: &str) -> usize {
    let close = if tag.starts_with("{#") { "#}" } else { "%}" };
    let Some(end) = tag.find(close).map(|end| end + close.len()) else { return tag.len() };
    let word = tag.get(2..end - 2).map(|word| word.trim_matches(['-', '+', ' ', '\t', '\n']));
    if word != Some("raw") || close == "#}" {
        return end;
    }
    let closing = tag
        .find("endraw")
        .and_then(|at| tag.get(at..).and_then(|rest| rest.find("%}")).map(|to| at + to + 2));
    closing.unwrap_or(tag.len())
}

/// Translates the tag that `text` begins with; what follows is returned.
fn one_tag<'t>(text: &'t str, line: usize, out: &mut String) -> Result<&'t str, TemplateError> {
    let unclosed = || TemplateError::Syntax { line, message: "`{{` has no `}}`".to_owned() };
    if let Some(inside) = text.strip_prefix("{{{") {
        let (inside, after) = inside.split_once("}}}").ok_or_else(unclosed)?;
        out.push_str(&format!("{{{{ {} }}}}", inside.trim()));
        return Ok(after);
    }
    let body = text.strip_prefix("{{").unwrap_or(text);
    if let Some(comment) = body.strip_prefix("!--") {
        let (inside, after) = comment.split_once("--}}").ok_or_else(unclosed)?;
        out.push_str(&"\n".repeat(inside.matches('\n').count()));
        return Ok(after);
    }
    let end = expression_end(body).ok_or_else(unclosed)?;
    let (inside, after) = body.split_at_checked(end).unwrap_or((body, ""));
    let after = after.strip_prefix("}}").unwrap_or(after);
    let (open, inside) = inside.strip_prefix('~').map_or(("", inside), |inside| ("-", inside));
    let (close, inside) = inside.strip_suffix('~').map_or(("", inside), |inside| ("-", inside));
    if inside.starts_with('!') {
        out.push_str(&"\n".repeat(inside.matches('\n').count()));
        return Ok(after);
    }
    match statement(inside.trim(), line)? {
        Some(Form::Statement(code)) => out.push_str(&format!("{{%{open} {code} {close}%}}")),
        Some(Form::Expression(code)) => out.push_str(&format!("{{{{{open} {code} {close}}}}}")),
        None => out.push_str(&format!("{{{{{open}{inside}{close}}}}}")),
    }
    Ok(after)
}

/// Where the `}}` of an expression stands, texts and inner braces considered.
fn expression_end(body: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut before = None;
    for (at, c) in body.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '}' && before == Some('}') => return Some(at - 1),
            None => {}
        }
        before = (quote.is_none()).then_some(c);
    }
    None
}

enum Form {
    Statement(String),
    Expression(String),
}

fn statement(inside: &str, line: usize) -> Result<Option<Form>, TemplateError> {
    let not_available = |what: &str| TemplateError::NotAvailable { line, what: what.to_owned() };
    let (word, operand) =
        inside.split_once(char::is_whitespace).map_or((inside, ""), |(w, rest)| (w, rest.trim()));
    let operand_of = |word: &str| {
        let missing = TemplateError::Syntax { line, message: format!("`{{{{{word}}}}}` names nothing") };
        if operand.is_empty() { Err(missing) } else { expression(operand, line) }
    };
    let form = match word {
        "#if" => Form::Statement(format!("if {}", operand_of(word)?)),
        "#unless" => Form::Statement(format!("if not ({})", operand_of(word)?)),
        "#each" => Form::Statement(format!("for this in ({})|values", operand_of(word)?)),
        "else" if operand.is_empty() => Form::Statement("else".to_owned()),
        "else" => match operand.split_once(char::is_whitespace) {
            Some(("if", condition)) => {
                Form::Statement(format!("elif {}", expression(condition.trim(), line)?))
            }
            _ => return Err(not_available("`{{else …}}` with anything but `if`")),
        },
        "/if" | "/unless" => Form::Statement("endif".to_owned()),
        "/each" => Form::Statement("endfor".to_owned()),
        _ if word.starts_with(['#', '/', '>', '^', '&', '*']) => {
            return Err(not_available(&format!("`{{{{{}}}}}`", super::guard::shown(inside))));
        }
        _ if word.starts_with('@') => Form::Expression(expression(inside, line)?),
        _ if HELPERS.contains(&word) && is_operand(operand) => Form::Expression(expression(inside, line)?),
        _ => return Ok(None),
    };
    Ok(Some(form))
}

fn is_operand(text: &str) -> bool {
    let word: &str = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
    text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '\'' | '@'))
        && !WORDS.contains(&word)
}

/// An operand: a name, or a helper with its operands.
fn expression(text: &str, line: usize) -> Result<String, TemplateError> {
    match text {
        "@index" => return Ok("loop.index0".to_owned()),
        "@first" => return Ok("loop.first".to_owned()),
        "@last" => return Ok("loop.last".to_owned()),
        _ if text.starts_with('@') || text.starts_with("../") => {
            return Err(TemplateError::NotAvailable {
                line,
                what: format!("`{}`", super::guard::shown(text)),
            });
        }
        _ => {}
    }
    let Some((helper, operands)) = text.split_once(char::is_whitespace) else { return Ok(text.to_owned()) };
    let operands = operands.trim();
    if !HELPERS.contains(&helper) || !is_operand(operands) {
        return Ok(text.to_owned());
    }
    if helper == "default" {
        let (value, other) = operands.split_once(char::is_whitespace).unwrap_or((operands, "\"\""));
        return Ok(format!("{}|default({})", expression(value, line)?, other.trim()));
    }
    Ok(format!("({})|{helper}", expression(operands, line)?))
}
