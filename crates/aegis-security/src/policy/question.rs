//! A question, and what Cedar is given for it: built once, shared by all layers.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use aegis_core::{Denial, DenialCode};
use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use serde_json::Value;

use super::layer::prefix;
use super::schema::{ActionName, Kind, Vocabulary};
use crate::constraint::{GovernedValue, WORKSPACE, canonical_host, normalise};

/// Longest name of a resource, in bytes.
pub const RESOURCE_BYTES_MAX: usize = 1024;
/// Most components of a path that policies are asked about.
pub const PATH_COMPONENTS_MAX: usize = 256;
/// Most texts and numbers among the arguments that policies are asked about.
const ARGUMENTS_MAX: usize = 1000;
/// Deepest nesting of arguments.
const ARGUMENTS_DEPTH_MAX: usize = 32;

/// One link of the chain of those who act: an agent in an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The execution's id.
    pub execution: String,
    /// The agent's name.
    pub agent: String,
    /// The agent's version.
    pub version: String,
    /// The tenant.
    pub tenant: String,
}

/// What is asked of every layer.
#[derive(Debug, Clone, Copy)]
pub struct Question<'call> {
    /// Who acts: the outermost ancestor first, the caller last.
    pub chain: &'call [Link],
    /// What is to be done.
    pub action: ActionName,
    /// To what: the name of a tool, model, domain, secret or volume.
    pub resource: &'call str,
    /// The governed arguments of the call: layers that look at them are asked once for each, and all must permit.
    pub governed: &'call [GovernedValue],
    /// All arguments.
    pub arguments: &'call Value,
    /// The rules whose constraints hold (`context:ci/capability:2`, `ancestor:1/context:ci/capability:0`).
    pub matched: &'call [String],
    /// Why constraints of other rules do not hold: they explain, and give the code of, a layer's denial.
    pub notes: &'call [Denial],
    /// Labels on the execution.
    pub labels: &'call [String],
    /// Risk, in thousandths.
    pub risk: i64,
    /// Seconds since 1970.
    pub time: i64,
}

impl<'call> Question<'call> {
    /// The link of the `ancestor`th ancestor; 0 is the caller.
    pub(super) fn link(&self, ancestor: u32) -> Option<&'call Link> {
        let distance = usize::try_from(ancestor).ok()?;
        self.chain.len().checked_sub(distance)?.checked_sub(1).and_then(|place| self.chain.get(place))
    }
}

/// A question that no rule could be asked: it denies.
#[derive(Debug, Clone)]
pub(super) struct Unintelligible {
    pub(super) code: DenialCode,
    pub(super) reason: String,
}

impl Unintelligible {
    fn new(code: DenialCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// A governed value as policies see it.
struct Seen {
    attribute: &'static str,
    value: RestrictedExpression,
}

/// What is shared by all layers.
pub(super) struct Prepared<'call> {
    question: Question<'call>,
    vocabulary: &'static Vocabulary,
    action: EntityUid,
    resource: EntityUid,
    seen: Vec<Seen>,
    pub(super) entities: Entities,
}

impl<'call> Prepared<'call> {
    /// Builds the entities of a question. Texts and numbers of the arguments only if a layer looks at them.
    pub(super) fn new(
        question: Question<'call>,
        vocabulary: &'static Vocabulary,
        with_arguments: bool,
    ) -> Result<Self, Unintelligible> {
        let mut known = Known { vocabulary, entities: Vec::new(), uids: HashSet::new() };
        let resource = known.resource(question.action, question.resource)?;
        for link in question.chain {
            let parents = [
                known.uid(Kind::Agent, &link.agent)?,
                known.uid(Kind::Agent, &format!("{}@{}", link.agent, link.version))?,
                known.uid(Kind::Tenant, &link.tenant)?,
            ];
            let execution = known.uid(Kind::Execution, &link.execution)?;
            known.add(execution, parents);
        }
        let seen = question.governed.iter().map(|value| known.governed(value)).collect::<Result<_, _>>()?;
        if with_arguments {
            known.arguments(question.arguments)?;
        }
        let action = vocabulary.action(question.action).ok_or_else(no_vocabulary)?;
        let entities = Entities::from_entities(known.entities, None)
            .map_err(|error| Unintelligible::new(DenialCode::ToolNotAllowed, error.to_string()))?;
        Ok(Self { question, vocabulary, action, resource, seen, entities })
    }

    /// The request about one governed value (by its place), or about none.
    pub(super) fn request(&self, ancestor: u32, value: Option<usize>) -> Result<Request, Unintelligible> {
        let question = &self.question;
        let link = question.link(ancestor).ok_or_else(|| {
            let reason = format!("the chain of this action has no ancestor {ancestor}");
            Unintelligible::new(DenialCode::ToolNotAllowed, reason)
        })?;
        let uid = |kind, id: &str| self.vocabulary.uid(kind, id).ok_or_else(no_vocabulary);
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let prefix = prefix(ancestor);
        let matched = question.matched.iter().filter_map(|rule| rule.strip_prefix(&prefix)).map(text);
        let labels = question.labels.iter().map(|label| text(label));
        let mut pairs = Vec::with_capacity(8);
        pairs.push(("matched".to_owned(), RestrictedExpression::new_set(matched)));
        pairs.push(("labels".to_owned(), RestrictedExpression::new_set(labels)));
        for (attribute, kind) in [("arguments", Kind::Arguments), ("numbers", Kind::Numbers)] {
            pairs.push((attribute.to_owned(), RestrictedExpression::new_entity_uid(uid(kind, THIS_CALL)?)));
        }
        pairs.push(("risk".to_owned(), RestrictedExpression::new_long(question.risk)));
        pairs.push(("time".to_owned(), RestrictedExpression::new_long(question.time)));
        pairs.push(("tenant".to_owned(), text(&link.tenant)));
        if let Some(seen) = value.and_then(|place| self.seen.get(place)) {
            pairs.push((seen.attribute.to_owned(), seen.value.clone()));
        }
        let context = Context::from_pairs(pairs)
            .map_err(|error| Unintelligible::new(DenialCode::ToolNotAllowed, error.to_string()))?;
        // Without a schema: tests check that what is built here fits it, the hot path does not ask again.
        let principal = uid(Kind::Execution, &link.execution)?;
        Request::new(principal, self.action.clone(), self.resource.clone(), context, None)
            .map_err(|error| Unintelligible::new(DenialCode::ToolNotAllowed, error.to_string()))
    }
    pub(super) fn question(&self) -> &Question<'call> {
        &self.question
    }
}

/// The id of the arguments' entities: there is one call in a question.
const THIS_CALL: &str = "call";

fn no_vocabulary() -> Unintelligible {
    Unintelligible::new(DenialCode::ToolNotAllowed, "the policy schema lacks a name")
}

/// The entities, while they are gathered.
struct Known {
    vocabulary: &'static Vocabulary,
    entities: Vec<Entity>,
    uids: HashSet<EntityUid>,
}

impl Known {
    fn uid(&self, kind: Kind, id: &str) -> Result<EntityUid, Unintelligible> {
        self.vocabulary.uid(kind, id).ok_or_else(no_vocabulary)
    }
    fn add(&mut self, uid: EntityUid, parents: impl IntoIterator<Item = EntityUid>) {
        if self.uids.insert(uid.clone()) {
            self.entities.push(Entity::new_no_attrs(uid, parents.into_iter().collect()));
        }
    }
    fn family<'a>(
        &mut self,
        kind: Kind,
        id: &str,
        parents: impl IntoIterator<Item = (Kind, &'a str)>,
    ) -> Result<EntityUid, Unintelligible> {
        let uid = self.uid(kind, id)?;
        let parents: Vec<EntityUid> =
            parents.into_iter().map(|(kind, id)| self.uid(kind, id)).collect::<Result<_, _>>()?;
        self.add(uid.clone(), parents);
        Ok(uid)
    }

    fn resource(&mut self, action: ActionName, name: &str) -> Result<EntityUid, Unintelligible> {
        if name.is_empty() || name.len() > RESOURCE_BYTES_MAX {
            let reason =
                format!("the name of what is asked for is empty or longer than {RESOURCE_BYTES_MAX} bytes");
            return Err(Unintelligible::new(DenialCode::ToolNotAllowed, reason));
        }
        match action.resource() {
            Kind::Tool => {
                let groups = tool_groups(name);
                self.family(Kind::Tool, name, groups.iter().map(|group| (Kind::ToolGroup, group.as_str())))
            }
            Kind::Domain => self.domain(name),
            kind => self.family(kind, name, []),
        }
    }
    fn domain(&mut self, name: &str) -> Result<EntityUid, Unintelligible> {
        let Some(host) = canonical_domain(name) else {
            let reason = format!("`{name}` is not a host name or address");
            return Err(Unintelligible::new(DenialCode::DomainNotAllowed, reason));
        };
        let mut parents = Vec::new();
        if host.parse::<IpAddr>().is_err() {
            let mut rest = host.as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                parents.push((Kind::Domain, parent));
                rest = parent;
            }
        }
        self.family(Kind::Domain, &host, parents)
    }
    fn path(&mut self, path: &str) -> Result<EntityUid, Unintelligible> {
        let wrong = |reason: String| Unintelligible::new(DenialCode::PathNotAllowed, reason);
        let path = normalise(path).map_err(|error| wrong(error.to_string()))?;
        if path.matches('/').count() > PATH_COMPONENTS_MAX {
            return Err(wrong(format!("the path has more than {PATH_COMPONENTS_MAX} components")));
        }
        let folders = path.match_indices('/').map(|(place, _)| path.get(..place.max(1)).unwrap_or("/"));
        let folders = folders.filter(|folder| *folder != path).map(|folder| (Kind::Path, folder));
        self.family(Kind::Path, &path, folders)
    }
    fn governed(&mut self, value: &GovernedValue) -> Result<Seen, Unintelligible> {
        let (attribute, value) = match value {
            GovernedValue::Path(path) => ("path", RestrictedExpression::new_entity_uid(self.path(path)?)),
            GovernedValue::Domain(host) => {
                ("domain", RestrictedExpression::new_entity_uid(self.domain(host)?))
            }
            GovernedValue::Command { argv, cwd } => {
                // Its folder is a name too, though no policy looks at it.
                normalise(cwd.as_deref().unwrap_or(WORKSPACE))
                    .map_err(|error| Unintelligible::new(DenialCode::PathNotAllowed, error.to_string()))?;
                let program = argv.first().cloned().unwrap_or_default();
                ("command", RestrictedExpression::new_string(program))
            }
        };
        Ok(Seen { attribute, value })
    }
    /// The arguments as texts by name, and the numbers among them rounded away from zero.
    fn arguments(&mut self, arguments: &Value) -> Result<(), Unintelligible> {
        let wrong = |reason: String| Unintelligible::new(DenialCode::InvalidArguments, reason);
        let mut leaves = Leaves::default();
        leaves.gather(String::new(), arguments, 0).map_err(|reason| wrong(reason.to_owned()))?;
        let Leaves { texts, numbers } = leaves;
        let texts = texts.into_iter().map(|(name, text)| (name, RestrictedExpression::new_string(text)));
        let numbers =
            numbers.into_iter().map(|(name, number)| (name, RestrictedExpression::new_long(number)));
        for (kind, tags) in
            [(Kind::Arguments, texts.collect::<Vec<_>>()), (Kind::Numbers, numbers.collect::<Vec<_>>())]
        {
            let entity = Entity::new_with_tags(self.uid(kind, THIS_CALL)?, [], [], tags)
                .map_err(|error| wrong(error.to_string()))?;
            self.entities.push(entity);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Leaves {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, i64>,
}

impl Leaves {
    fn gather(&mut self, name: String, value: &Value, depth: usize) -> Result<(), &'static str> {
        if self.texts.len() >= ARGUMENTS_MAX || depth > ARGUMENTS_DEPTH_MAX {
            return Err("the arguments are more, or deeper nested, than policies are asked about");
        }
        let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
        match value {
            Value::Object(fields) => {
                for (part, field) in fields {
                    self.gather(below(part), field, depth + 1)?;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.gather(below(&index.to_string()), item, depth + 1)?;
                }
            }
            Value::String(text) => self.text(name, text.clone())?,
            Value::Number(number) => {
                self.numbers.insert(name.clone(), whole(number));
                self.text(name, number.to_string())?;
            }
            Value::Bool(_) | Value::Null => self.text(name, value.to_string())?,
        }
        Ok(())
    }
    /// `{"a.b": …}` and `{"a": {"b": …}}` have one name: a rule would see one of them and the tool the other.
    fn text(&mut self, name: String, text: String) -> Result<(), &'static str> {
        match self.texts.insert(name, text) {
            None => Ok(()),
            Some(_) => Err("two arguments have one dotted name"),
        }
    }
}

/// A number as policies compare it: whole, rounded away from zero, so that no fraction slips under a limit.
fn whole(number: &serde_json::Number) -> i64 {
    if let Some(whole) = number.as_i64() {
        return whole;
    }
    let float = number.as_f64().unwrap_or(f64::MAX);
    let away = float.abs().ceil().copysign(float);
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is meant")]
    let whole = away as i64;
    whole
}

/// The groups a tool is in: one for each dotted prefix, and all tools. The same as [`crate::constraint::ToolPattern`].
fn tool_groups(name: &str) -> Vec<String> {
    let mut groups = vec!["*".to_owned()];
    for (dot, _) in name.match_indices('.') {
        match name.get(..=dot) {
            Some(prefix) if prefix.len() > 1 && prefix.len() < name.len() => {
                groups.push(format!("{prefix}*"))
            }
            _ => {}
        }
    }
    groups
}

/// The one spelling of a host name or address.
fn canonical_domain(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(address.to_canonical().to_string()),
        Err(_) => canonical_host(text),
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Schema;
    use serde_json::json;

    use super::*;

    fn link(agent: &str) -> Link {
        Link {
            execution: format!("{agent}-1"),
            agent: agent.to_owned(),
            version: "1.0.0".to_owned(),
            tenant: "default".to_owned(),
        }
    }

    /// What the hot path builds, it builds without the schema: here the schema looks at it.
    fn fits(question: &Question<'_>, ancestor: u32, value: Option<usize>) {
        let vocabulary = Vocabulary::get().unwrap();
        let schema: &Schema = vocabulary.schema();
        let prepared =
            Prepared::new(*question, vocabulary, true).unwrap_or_else(|error| panic!("{}", error.reason));
        Entities::from_entities(prepared.entities.iter().cloned(), Some(schema)).unwrap();
        let request = prepared.request(ancestor, value).unwrap();
        let context = request.context().unwrap().clone();
        Request::new(
            request.principal().unwrap().clone(),
            request.action().unwrap().clone(),
            request.resource().unwrap().clone(),
            context,
            Some(schema),
        )
        .unwrap();
    }

    #[test]
    fn what_is_built_fits_the_schema() {
        let chain = [link("parent"), link("child")];
        let governed = [
            GovernedValue::Path("src/a.rs".to_owned()),
            GovernedValue::Domain("A.Example.org.".to_owned()),
            GovernedValue::Command { argv: vec!["git".to_owned()], cwd: None },
            GovernedValue::Path("/".to_owned()),
        ];
        let arguments = json!({"a": "x", "b": [1, 2.5, null], "c": {"d": true}});
        for (action, resource) in [
            (ActionName::CallTool, "fs.read"),
            (ActionName::AskModel, "default"),
            (ActionName::Judge, "default"),
            (ActionName::Connect, "a.example.org"),
            (ActionName::Connect, "[::1]"),
            (ActionName::UseSecret, "github"),
            (ActionName::Mount, "work"),
        ] {
            let question = Question {
                chain: &chain,
                action,
                resource,
                governed: &governed,
                arguments: &arguments,
                matched: &["context:ci/capability:0".to_owned()],
                notes: &[],
                labels: &["untrusted".to_owned()],
                risk: 10,
                time: 1_700_000_000,
            };
            for ancestor in [0, 1] {
                for value in [None, Some(0), Some(1), Some(2), Some(3)] {
                    fits(&question, ancestor, value);
                }
            }
        }
    }

    #[test]
    fn a_tool_is_in_a_group_for_each_dotted_prefix() {
        for (name, groups) in [
            ("fs.read", &["*", "fs.*"][..]),
            ("fs.a.b", &["*", "fs.*", "fs.a.*"]),
            ("fs", &["*"]),
            ("fs.", &["*"]),
            (".x", &["*"]),
            ("..x", &["*", "..*"]),
        ] {
            assert_eq!(tool_groups(name), groups, "{name}");
        }
    }

    #[test]
    fn numbers_are_rounded_away_from_zero() {
        for (number, expected) in [
            (json!(5), 5),
            (json!(-5), -5),
            (json!(100.5), 101),
            (json!(-0.5), -1),
            (json!(u64::MAX), i64::MAX),
            (json!(1e300), i64::MAX),
            (json!(-1e300), i64::MIN),
        ] {
            assert_eq!(whole(number.as_number().unwrap()), expected, "{number}");
        }
    }

    #[test]
    fn hosts_and_addresses_have_one_spelling() {
        for (text, expected) in [
            ("A.Example.org.", Some("a.example.org")),
            ("[::1]", Some("::1")),
            ("0:0:0::1", Some("::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[example.org]", None),
            ("example.org:80", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(canonical_domain(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn arguments_have_limits_and_one_name_each() {
        let gather = |arguments: &Value| {
            let mut leaves = Leaves::default();
            leaves.gather(String::new(), arguments, 0).map(|()| leaves)
        };
        let leaves = gather(&json!({"a": {"b": [true, null, 1.5]}, "c": "x"}))
            .unwrap_or_else(|error| panic!("{error}"));
        let texts: Vec<_> = leaves.texts.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(texts, ["a.b.0=true", "a.b.1=null", "a.b.2=1.5", "c=x"]);
        assert_eq!(leaves.numbers.into_iter().collect::<Vec<_>>(), [("a.b.2".to_owned(), 2)]);
        assert!(gather(&json!({"a.b": 1, "a": {"b": 2}})).is_err());
        assert!(gather(&json!(vec![0; ARGUMENTS_MAX])).is_ok());
        assert!(gather(&json!(vec![0; ARGUMENTS_MAX + 1])).is_err());
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(gather(&nested(ARGUMENTS_DEPTH_MAX)).is_ok());
        assert!(gather(&nested(ARGUMENTS_DEPTH_MAX + 1)).is_err());
    }
}
