//! The conformance suite of the `tool_host` port, and a volume in memory for tools to work on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_core::{Sha256, ToolCall};
use aegis_kernel::port::{
    DirectoryEntry, FileKind, FileMeta, FileRecords, Files, Grant, ToolContext, ToolError, ToolFacts,
    ToolHost, Tree, TreeEntry, VolumeError,
};
use aegis_security::commitment::sha256;
use aegis_security::constraint::{PathPattern, is_at_or_below};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What every host of tools keeps. Panics on the first promise that is broken.
pub async fn keeps_its_promises(host: &dyn ToolHost, context: &ToolContext) {
    let mut names = BTreeSet::new();
    for tool in host.tools() {
        assert!(names.insert(&tool.schema.name), "two tools are called `{}`", tool.schema.name);
        describes_itself(tool);
        refuses_wrong_arguments(host, context, tool).await;
        respects_cancellation(host, context, tool).await;
    }
    let unknown = call("no.such.tool", json!({}));
    let answer = host.call(context, &unknown, &CancellationToken::new()).await;
    assert!(answer.is_err(), "an unknown tool answered {answer:?}");
}

fn describes_itself(tool: &ToolFacts) {
    let (name, parameters) = (&tool.schema.name, &tool.schema.parameters);
    assert!(!tool.schema.description.trim().is_empty(), "`{name}` has no description");
    assert_eq!(parameters.get("type"), Some(&json!("object")), "the arguments of `{name}` are no object");
    let properties = parameters.get("properties").and_then(Value::as_object);
    let is_property = |argument: &str| properties.is_some_and(|properties| properties.contains_key(argument));
    for governed in &tool.governed {
        assert!(
            is_property(&governed.argument),
            "`{name}` governs `{}`, which it does not take",
            governed.argument
        );
    }
    for required in parameters.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(
            required.as_str().is_some_and(is_property),
            "`{name}` requires {required}, which it does not take"
        );
    }
    let validator = jsonschema::validator_for(parameters);
    assert!(validator.is_ok(), "the schema of `{name}` cannot be used: {:?}", validator.err());
    for example in examples(tool) {
        let problem = jsonschema::validate(parameters, example);
        assert!(problem.is_ok(), "`{name}` refuses its own example: {:?}", problem.err());
    }
}

async fn refuses_wrong_arguments(host: &dyn ToolHost, context: &ToolContext, tool: &ToolFacts) {
    let name = &tool.schema.name;
    for wrong in [json!("not an object"), json!([1]), Value::Null] {
        let answer = host.call(context, &call(name, wrong.clone()), &CancellationToken::new()).await;
        assert!(matches!(answer, Err(ToolError::Arguments(_))), "`{name}` took {wrong}: {answer:?}");
    }
    for example in examples(tool) {
        let mut foreign = example.clone();
        if let Value::Object(arguments) = &mut foreign {
            arguments.insert("no_such_argument".to_owned(), json!(1));
        }
        let answer = host.call(context, &call(name, foreign), &CancellationToken::new()).await;
        assert!(
            matches!(answer, Err(ToolError::Arguments(_))),
            "`{name}` took a foreign argument: {answer:?}"
        );
    }
}

async fn respects_cancellation(host: &dyn ToolHost, context: &ToolContext, tool: &ToolFacts) {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    for example in examples(tool) {
        let answer = host.call(context, &call(&tool.schema.name, example.clone()), &cancelled).await;
        assert_eq!(answer, Err(ToolError::Cancelled), "`{}` worked although cancelled", tool.schema.name);
    }
}

/// What our own tools keep beyond what may be asked of a foreign server's: closed schemas, words for every argument,
/// and an example of each.
#[track_caller]
pub fn speaks_plainly(host: &dyn ToolHost) {
    for tool in host.tools() {
        let (name, parameters) = (&tool.schema.name, &tool.schema.parameters);
        assert_eq!(parameters.get("additionalProperties"), Some(&json!(false)), "`{name}` takes anything");
        assert!(examples(tool).next().is_some(), "`{name}` has no example");
        for (argument, schema) in
            parameters.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(!description.is_empty(), "`{argument}` of `{name}` has no description");
        }
    }
}

fn examples(tool: &ToolFacts) -> impl Iterator<Item = &Value> {
    tool.schema.parameters.get("examples").and_then(Value::as_array).into_iter().flatten()
}

/// A call of the tool `name`.
pub fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: "call".to_owned(), name: name.to_owned(), arguments }
}

/// A volume in memory, with the rules of its grant. Made for tests of tools: it has no front and keeps no ranges.
pub struct MemoryFiles {
    grant: Grant,
    read: Vec<PathPattern>,
    write: Vec<PathPattern>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By absolute path.
    nodes: BTreeMap<String, Node>,
    records: FileRecords,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Vec<u8>),
    Symlink,
}

impl MemoryFiles {
    /// An empty volume under `grant`; fails if its rules cannot be read.
    pub fn new(grant: Grant) -> Result<Self, VolumeError> {
        let compile = |rules: &[String]| {
            let patterns = rules.iter().map(|rule| PathPattern::new(rule));
            patterns.collect::<Result<Vec<_>, _>>().map_err(|error| VolumeError::Io(error.to_string()))
        };
        let nodes = BTreeMap::from([(grant.mount_path.clone(), Node::Directory)]);
        let state = Mutex::new(State { nodes, records: FileRecords::default() });
        Ok(Self { read: compile(&grant.rules.read)?, write: compile(&grant.rules.write)?, state, grant })
    }
    /// Puts a file there, whatever the rules.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut state = self.lock();
        make_parents(&mut state.nodes, &self.grant.mount_path, path);
        state.nodes.insert(path.to_owned(), Node::File(bytes.to_vec()));
    }
    /// Puts a symbolic link there, which leads nowhere.
    pub fn put_link(&self, path: &str) {
        self.lock().nodes.insert(path.to_owned(), Node::Symlink);
    }
    /// The content of a file, whatever the rules.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        match self.lock().nodes.get(path) {
            Some(Node::File(bytes)) => Some(bytes.clone()),
            Some(Node::Directory | Node::Symlink) | None => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn can_write(&self, path: &str) -> bool {
        !self.grant.read_only && self.write.iter().any(|pattern| pattern.matches(path))
    }
    fn can_read(&self, path: &str) -> bool {
        self.read.iter().chain(&self.write).any(|pattern| pattern.matches(path))
    }
    fn can_walk(&self, path: &str) -> bool {
        self.can_read(path) || self.read.iter().chain(&self.write).any(|pattern| pattern.leads_below(path))
    }
    fn reading(&self, path: &str, permitted: bool) -> Result<MutexGuard<'_, State>, VolumeError> {
        let mut state = self.lock();
        if !permitted || !is_at_or_below(path, &self.grant.mount_path) {
            state.records.refused += 1;
            return Err(VolumeError::NotAllowed(format!("`{path}` may not be read")));
        }
        state.records.reads += 1;
        Ok(state)
    }
    fn writing(&self, path: &str) -> Result<MutexGuard<'_, State>, VolumeError> {
        let mut state = self.lock();
        if !self.can_write(path) || !is_at_or_below(path, &self.grant.mount_path) {
            state.records.refused += 1;
            return Err(VolumeError::NotAllowed(format!("`{path}` may not be written")));
        }
        state.records.writes += 1;
        Ok(state)
    }
}

impl Files for MemoryFiles {
    fn grant(&self) -> &Grant {
        &self.grant
    }
    fn mount_point(&self) -> Option<PathBuf> {
        None
    }
    fn stat(&self, path: &str) -> Result<FileMeta, VolumeError> {
        let state = self.reading(path, self.can_walk(path))?;
        state.nodes.get(path).map(meta).ok_or_else(|| VolumeError::NotFound(path.to_owned()))
    }
    fn read(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, VolumeError> {
        let state = self.reading(path, self.can_read(path))?;
        match state.nodes.get(path) {
            Some(Node::File(bytes)) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(bytes.iter().skip(from).take(length).copied().collect())
            }
            Some(Node::Directory) => Err(VolumeError::WrongKind(format!("`{path}` is a directory"))),
            Some(Node::Symlink) | None => Err(VolumeError::NotFound(path.to_owned())),
        }
    }
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), VolumeError> {
        let mut state = self.writing(path)?;
        if let Some(Node::Directory) = state.nodes.get(path) {
            return Err(VolumeError::WrongKind(format!("`{path}` is a directory")));
        }
        let used: u64 =
            state.nodes.iter().filter(|(at, _)| *at != path).map(|(_, node)| meta(node).size).sum();
        if used + bytes.len() as u64 > self.grant.size_limit {
            return Err(VolumeError::QuotaExceeded(self.grant.size_limit));
        }
        make_parents(&mut state.nodes, &self.grant.mount_path, path);
        state.nodes.insert(path.to_owned(), Node::File(bytes.to_vec()));
        state.records.written_bytes += bytes.len() as u64;
        Ok(())
    }
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, VolumeError> {
        let state = self.reading(path, self.can_walk(path))?;
        match state.nodes.get(path) {
            Some(Node::Directory) => {}
            Some(Node::File(_) | Node::Symlink) => {
                return Err(VolumeError::WrongKind(format!("`{path}` is not a directory")));
            }
            None => return Err(VolumeError::NotFound(path.to_owned())),
        }
        let children = state.nodes.iter().filter_map(|(at, node)| {
            let (parent, name) = at.rsplit_once('/')?;
            let is_seen = if matches!(node, Node::Directory) { self.can_walk(at) } else { self.can_read(at) };
            (parent == path && is_seen).then(|| DirectoryEntry { name: name.to_owned(), meta: meta(node) })
        });
        Ok(children.collect())
    }
    fn create_dir(&self, path: &str) -> Result<(), VolumeError> {
        let mut state = self.writing(path)?;
        match state.nodes.get(path) {
            Some(Node::Directory) => return Ok(()),
            Some(Node::File(_) | Node::Symlink) => return Err(VolumeError::Exists(path.to_owned())),
            None => {}
        }
        make_parents(&mut state.nodes, &self.grant.mount_path, path);
        state.nodes.insert(path.to_owned(), Node::Directory);
        Ok(())
    }
    fn remove(&self, path: &str, recursive: bool) -> Result<(), VolumeError> {
        let mut state = self.writing(path)?;
        if !state.nodes.contains_key(path) {
            return Err(VolumeError::NotFound(path.to_owned()));
        }
        let inside: Vec<String> =
            state.nodes.keys().filter(|at| *at != path && is_at_or_below(at, path)).cloned().collect();
        if !inside.is_empty() && !recursive {
            return Err(VolumeError::WrongKind(format!("`{path}` is a directory with content")));
        }
        for at in inside.iter().map(String::as_str).chain([path]) {
            state.nodes.remove(at);
        }
        Ok(())
    }
    fn take_records(&self) -> Option<FileRecords> {
        let records = std::mem::take(&mut self.lock().records);
        (records != FileRecords::default()).then_some(records)
    }
    fn tree(&self) -> Result<Tree, VolumeError> {
        let state = self.lock();
        let entries = state.nodes.iter().filter_map(|(path, node)| {
            let relative = path.strip_prefix(&self.grant.mount_path)?.trim_start_matches('/').to_owned();
            let (size, sha256): (u64, Sha256) = match node {
                Node::Directory => return None,
                Node::File(bytes) => (bytes.len() as u64, sha256(bytes)),
                Node::Symlink => (0, sha256(b"")),
            };
            Some(TreeEntry { path: relative, size, sha256 })
        });
        Ok(Tree { entries: entries.collect() })
    }
    fn close(&self) {}
}

fn meta(node: &Node) -> FileMeta {
    let (kind, size) = match node {
        Node::Directory => (FileKind::Directory, 0),
        Node::File(bytes) => (FileKind::File, bytes.len() as u64),
        Node::Symlink => (FileKind::Symlink, 0),
    };
    FileMeta { kind, size, modified_micros: 0 }
}

fn make_parents(nodes: &mut BTreeMap<String, Node>, mount_path: &str, path: &str) {
    let mut parent = path;
    while let Some((above, _)) = parent.rsplit_once('/') {
        if !is_at_or_below(above, mount_path) || nodes.contains_key(above) {
            return;
        }
        nodes.insert(above.to_owned(), Node::Directory);
        parent = above;
    }
}
