//! What a template may not contain: everything that builds values. A loop that doubled a text or a list at each turn
//! would use unbounded memory in few steps.

use super::TemplateError;

const STATEMENTS: [&str; 8] = ["if", "elif", "else", "endif", "for", "endfor", "raw", "endraw"];
/// The filters there are.
const FILTERS: [&str; 8] = ["json", "length", "upper", "lower", "trim", "first_line", "default", "values"];
/// Words after which a bracket begins a group, not a call.
const KEYWORDS: [&str; 8] = ["if", "elif", "else", "in", "not", "and", "or", "is"];
/// Deepest nesting of brackets in one tag.
const NESTING_MAX: usize = 32;

/// Looks at each tag of a translated template.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    let mut rest = source;
    let mut line = 1;
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        let (before, tag) = rest.split_at_checked(at).unwrap_or((rest, ""));
        line += before.matches('\n').count();
        let length = if tag.starts_with("{#") {
            tag.find("#}").map_or(tag.len(), |end| end + 2)
        } else {
            one_tag(tag, line)?
        };
        let (inside, after) = tag.split_at_checked(length).unwrap_or((tag, ""));
        line += inside.matches('\n').count();
        rest = after;
    }
    Ok(())
}

/// The first characters of something an author wrote, for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Checks the tag that `text` begins with; returns its length, a raw block's whole.
fn one_tag(text: &str, line: usize) -> Result<usize, TemplateError> {
    let statement = text.starts_with("{%");
    let (end, code) = tag_end(text, if statement { '%' } else { '}' }, line)?;
    if statement {
        let code = code.trim_start_matches(['-', '+']).trim_start();
        let word = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        if !STATEMENTS.contains(&word) {
            return Err(TemplateError::NotAvailable {
                line,
                what: format!("the statement `{}`", shown(word)),
            });
        }
        if word == "raw" {
            let closing = text.find("endraw").and_then(|at| Some(at + text.get(at..)?.find("%}")? + 2));
            return Ok(closing.unwrap_or(text.len()));
        }
    }
    Ok(end)
}

/// Where the tag ends, and what is between its marks.
fn tag_end(text: &str, closing: char, line: usize) -> Result<(usize, &str), TemplateError> {
    let refuse = |what: &str| Err(TemplateError::NotAvailable { line, what: what.to_owned() });
    let mut quote = None;
    let mut escaped = false;
    let mut brackets: Vec<char> = Vec::new();
    let mut previous = ' ';
    let mut words = Words::default();
    let mut characters = text.char_indices().skip(2).peekable();
    while let Some((at, c)) = characters.next() {
        if let Some(open) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == open => quote = None,
                _ => {}
            }
            previous = c;
            continue;
        }
        if let Some(filter) = words.take(c) {
            return refuse(&format!("the filter `{}`", shown(&filter)));
        }
        let next = characters.peek().map(|(_, next)| *next);
        let after_word = previous.is_alphanumeric() || previous == '_';
        let after_keyword = after_word && KEYWORDS.contains(&words.last.as_str());
        let after_value = !after_keyword && (after_word || matches!(previous, ']' | ')' | '"' | '\''));
        let at_edge = at == 2 || next == Some(closing);
        match c {
            c if c == closing && next == Some('}') => {
                return Ok((at + 2, text.get(2..at).unwrap_or_default()));
            }
            '"' | '\'' => quote = Some(c),
            '~' | '+' if !at_edge => return refuse("joining with `~` or `+`"),
            '*' => return refuse("the operator `*`"),
            '{' => return refuse("a mapping written in a template"),
            '[' if !after_value => return refuse("a list written in a template"),
            '(' if after_word && words.is_filter => brackets.push('c'),
            '(' if after_value => return refuse("calling a function"),
            '(' | '[' => brackets.push(c),
            ')' | ']' => {
                brackets.pop();
            }
            ',' if brackets.last() != Some(&'c') => return refuse("a `,` outside of a filter's arguments"),
            _ => {}
        }
        if brackets.len() > NESTING_MAX {
            return refuse("this many nested brackets");
        }
        if !c.is_whitespace() {
            previous = c;
        }
    }
    Err(TemplateError::Syntax { line, message: "the tag is not closed".to_owned() })
}

/// The last word of a tag, and whether it names a filter.
#[derive(Default)]
struct Words {
    last: String,
    is_filter: bool,
    /// The last character that is not white space.
    before: char,
    white: bool,
}

impl Words {
    /// Takes the next character; returns the last word if it names a filter that there is not.
    fn take(&mut self, c: char) -> Option<String> {
        if c.is_whitespace() {
            self.white = true;
            return None;
        }
        let within = |c: char| c.is_alphanumeric() || c == '_';
        let mut wrong = None;
        if within(c) {
            if self.white || !within(self.before) {
                wrong = self.unknown();
                self.is_filter = self.before == '|';
                self.last.clear();
            }
            self.last.push(c);
        } else {
            wrong = self.unknown();
        }
        self.before = c;
        self.white = false;
        wrong
    }

    fn unknown(&self) -> Option<String> {
        (self.is_filter && !FILTERS.contains(&self.last.as_str())).then(|| self.last.clone())
    }
}
