//! A document as a tree whose nodes know where they stand. Bounded in bytes, nodes and depth.

use std::collections::HashMap;

use aegis_core::limits::{DOCUMENT_BYTES_MAX, JSON_DEPTH_MAX};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::diagnostic::{Problem, ProblemCode, quoted};

/// Most nodes of a document, aliases written out.
const NODES_MAX: usize = 50_000;

/// What `${…}` means in a document.
pub(super) enum Variables<'a> {
    /// Plain text.
    Off,
    /// The value of a variable of the daemon.
    Of(&'a dyn Fn(&str) -> Option<String>),
}

/// A node and the place where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A text, number, truth value or nothing.
    Scalar {
        /// The text, variables replaced.
        text: String,
        /// The text as written, where variables were replaced: what messages may show.
        written: Option<String>,
        /// Whether it stands without quotes, and so may be a number, truth value or nothing.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping: key, place of the key, value.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
    /// The scalar in backticks, as written.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            Kind::Scalar { written: Some(written), .. } => quoted(written),
            Kind::Scalar { text, .. } => quoted(text),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }
    /// Whether it is nothing: `key:` without a value, `null`, `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true, .. }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
    /// The entries of a mapping.
    pub(super) fn entries(&self) -> &[(Node, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }
    /// The items of a list.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }
    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }
    /// The value at a path of keys.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }
    /// The text of the scalar at a path of keys.
    pub(super) fn text_at(&self, path: &str) -> Option<&str> {
        self.at(path).filter(|node| !node.is_null()).and_then(Node::text)
    }
    /// A problem at this place.
    pub(super) fn problem(&self, code: ProblemCode, path: &str, message: impl Into<String>) -> Problem {
        Problem {
            code,
            path: path.to_owned(),
            line: self.line,
            column: self.column,
            message: message.into(),
            hint: None,
            source_line: String::new(),
        }
    }
}

/// Reads the one document of a text. Problems that do not end the reading go to `problems`.
pub(super) fn read(
    text: &str,
    variables: &Variables<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    let start = Node { line: 1, column: 1, kind: Kind::List(Vec::new()) };
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("the document has {} bytes, more than {DOCUMENT_BYTES_MAX}", text.len());
        return Err(start.problem(ProblemCode::Limit, "", message).hint("move large texts into files"));
    }
    if let Some((line, column)) = nul_position(text) {
        let place = Node { line, column, kind: Kind::List(Vec::new()) };
        return Err(place.problem(ProblemCode::Syntax, "", "the document is not text: it holds a zero byte"));
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = JSON_DEPTH_MAX + 1;
    options.block_nesting_limit = JSON_DEPTH_MAX + 1;
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        variables,
        problems,
        anchors: HashMap::new(),
        nodes: 0,
    };
    let document = reader.document()?;
    if document.is_null() {
        let problem = start.problem(ProblemCode::Syntax, "", "the document is empty");
        return Err(problem.hint("begin with `apiVersion: 100monkeys.ai/v1`"));
    }
    Ok(document)
}

fn nul_position(text: &str) -> Option<(usize, usize)> {
    let before = text.split_once('\0')?.0;
    let line = before.matches('\n').count() + 1;
    Some((line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1))
}

struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

struct Reader<'input, 'a, I: serde_saphyr::granit_parser::BorrowedInput<'input>> {
    parser: Parser<'input, I>,
    variables: &'a Variables<'a>,
    problems: &'a mut Vec<Problem>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
}

/// A node and the height of the tree below it.
type Built = (Node, usize);

impl<'input, I: serde_saphyr::granit_parser::BorrowedInput<'input>> Reader<'input, '_, I> {
    fn next(&mut self) -> Result<(Event<'input>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event if document.is_none() => document = Some(self.node(event, span, 1)?.0),
                _ => {
                    let problem =
                        place(span).problem(ProblemCode::Syntax, "", "the file holds a second document");
                    return Err(problem.hint("write one document a file"));
                }
            }
        }
        let nothing = Kind::Scalar { text: String::new(), written: None, plain: true };
        Ok(document.unwrap_or(Node { line: 1, column: 1, kind: nothing }))
    }

    fn node(&mut self, event: Event<'input>, span: Span, depth: usize) -> Result<Built, Problem> {
        let before = self.nodes;
        self.nodes += 1;
        self.within_limits(span, depth)?;
        if let Some(tag) = event.tag() {
            let message = format!("tags like {} are not read", quoted(&tag.to_string()));
            self.problems.push(place(span).problem(ProblemCode::Syntax, "", message).hint("remove the tag"));
        }
        let anchor = event.anchor_id();
        let (kind, height) = match event {
            Event::Alias(target) => return self.alias(target, span, depth),
            Event::Scalar(text, style, ..) => (self.scalar(text.into_owned(), style, span), 1),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(place(span).problem(ProblemCode::Syntax, "", "this is not a value")),
        };
        let node = Node { kind, ..place(span) };
        if let Some(anchor) = anchor {
            let nodes = self.nodes - before;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        Ok((node, height))
    }

    fn within_limits(&self, span: Span, depth: usize) -> Result<(), Problem> {
        let limit = |message: String| Err(place(span).problem(ProblemCode::Limit, "", message));
        if depth > JSON_DEPTH_MAX {
            return limit(format!("the document is nested deeper than {JSON_DEPTH_MAX} levels"));
        }
        if self.nodes > NODES_MAX {
            return limit(format!("the document has more than {NODES_MAX} values, aliases written out"));
        }
        Ok(())
    }

    fn alias(&mut self, target: usize, span: Span, depth: usize) -> Result<Built, Problem> {
        let Some(anchored) = self.anchors.get(&target) else {
            return Err(place(span).problem(
                ProblemCode::Syntax,
                "",
                "this alias stands within its own anchor",
            ));
        };
        self.nodes += anchored.nodes;
        let height = anchored.height;
        self.within_limits(span, depth + height)?;
        self.anchors
            .get(&target)
            .map(|anchored| (anchored.node.clone(), height))
            .ok_or_else(|| place(span).problem(ProblemCode::Syntax, "", "this alias names no anchor"))
    }

    fn list(&mut self, depth: usize) -> Result<(Kind, usize), Problem> {
        let mut items = Vec::new();
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((Kind::List(items), height + 1));
            }
            let (item, below) = self.node(event, span, depth + 1)?;
            height = height.max(below);
            items.push(item);
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Kind, usize), Problem> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok((Kind::Map(entries), height + 1));
            }
            let (key, _) = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let (value, below) = self.node(event, span, depth + 1)?;
            height = height.max(below);
            match key.text() {
                None => self.problems.push(key.problem(ProblemCode::Syntax, "", "a key must be a text")),
                Some(name) => match places.insert(name.to_owned(), key.line) {
                    Some(first) => {
                        let message =
                            format!("the key {} is given twice; first in line {first}", quoted(name));
                        let problem = key.problem(ProblemCode::DuplicateKey, "", message);
                        self.problems.push(problem.hint("keep one of them"));
                    }
                    None => entries.push((key, value)),
                },
            }
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) -> Kind {
        let plain = style == ScalarStyle::Plain;
        let Variables::Of(variable) = self.variables else {
            return Kind::Scalar { text, written: None, plain };
        };
        match replaced(&text, *variable) {
            Ok(None) => Kind::Scalar { text, written: None, plain },
            Ok(Some(value)) => Kind::Scalar { text: value, written: Some(text), plain },
            Err(message) => {
                self.problems.push(place(span).problem(ProblemCode::Variable, "", message).hint(
                    "set the variable for the daemon, write `${NAME:-default}`, or `$${` for the characters `${`",
                ));
                Kind::Scalar { text: text.clone(), written: Some(text), plain: false }
            }
        }
    }
}

fn place(span: Span) -> Node {
    Node { line: span.start.line().max(1), column: span.start.col() + 1, kind: Kind::List(Vec::new()) }
}

fn syntax(error: &ScanError) -> Problem {
    let at = error.marker();
    let place = Node { line: at.line().max(1), column: at.col() + 1, kind: Kind::List(Vec::new()) };
    let info = error.info();
    let code = if info.contains("limit") { ProblemCode::Limit } else { ProblemCode::Syntax };
    let problem = place.problem(code, "", format!("this is not YAML: {info}"));
    let hint = [
        ("tab", "indent with spaces, not tabs"),
        ("quoted", "close the quote, and indent its lines deeper than its key"),
        ("bracket", "close every bracket that is opened"),
        ("anchor", "an alias `*name` needs an anchor `&name` before it; quote a text that begins with `*`"),
        ("mapping values", "quote a text that holds `: `"),
    ];
    match hint.into_iter().find(|(word, _)| info.contains(word)) {
        Some((_, hint)) => problem.hint(hint),
        None => problem,
    }
}

/// The text with `${NAME}` and `${NAME:-default}` replaced, `$${` standing for `${`; `None` if there is nothing to
/// replace. What is put in is not looked at again.
fn replaced(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, tail) = after.split_once('}').ok_or_else(|| format!("{} has no `}}`", quoted(text)))?;
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(n, d)| (n, Some(d)));
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !named {
            return Err(format!("{} is not the name of a variable", quoted(name)));
        }
        let value = variable(name).filter(|value| default.is_none() || !value.is_empty());
        match value.as_deref().or(default) {
            Some(value) => out.push_str(value),
            None => return Err(format!("the variable {} is not set", quoted(name))),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(Some(out))
}
