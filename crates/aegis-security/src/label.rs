//! Labels: what an execution has touched. They only grow, and rules say which may not come together.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use aegis_core::UNTRUSTED_SENSITIVE_EGRESS;
use serde::{Deserialize, Serialize};

/// Most labels of one execution. Beyond it the set says so instead of growing: see [`Labels::join`].
pub const LABELS_MAX: usize = 256;
/// Longest name of a source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 200;

/// A label: one of three classes, or where something came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Label {
    /// Holds what nobody vouches for.
    Untrusted,
    /// Holds what must not leave.
    Sensitive,
    /// Reaches outside the node.
    Egress,
    /// `source:NAME`: came from there.
    Source(String),
}

/// Text that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a label: use `untrusted`, `sensitive`, `egress` or `source:NAME` with 1 to {SOURCE_BYTES_MAX} of \
     a-z, A-Z, 0-9 and `-_.:/@`"
)]
pub struct LabelError(String);

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        match text {
            "untrusted" => return Ok(Self::Untrusted),
            "sensitive" => return Ok(Self::Sensitive),
            "egress" => return Ok(Self::Egress),
            _ => {}
        }
        let named = |name: &&str| {
            (1..=SOURCE_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte))
        };
        let name = text.strip_prefix("source:").filter(named);
        name.map(|name| Self::Source(name.to_owned())).ok_or_else(|| LabelError(text.to_owned()))
    }
}
impl TryFrom<String> for Label {
    type Error = LabelError;
    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}
impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.to_string()
    }
}
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => f.write_str("untrusted"),
            Self::Sensitive => f.write_str("sensitive"),
            Self::Egress => f.write_str("egress"),
            Self::Source(name) => write!(f, "source:{name}"),
        }
    }
}

/// A set of labels that only grows. There is no way to take one out: what a person declassifies is one artifact, whose
/// labels are then not joined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeSet<Label>);

impl Labels {
    /// No label.
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }
    /// Joins other labels. Answers with those that are new; growth asks for open tunnels to be judged again. When
    /// sources are too many, further ones are left out: the classes, which rules speak of, always fit.
    pub fn join(&mut self, others: &Self) -> Self {
        let mut grown = BTreeSet::new();
        for label in &others.0 {
            let fits = self.0.len() < LABELS_MAX || !matches!(label, Label::Source(_));
            if fits && self.0.insert(label.clone()) {
                grown.insert(label.clone());
            }
        }
        Self(grown)
    }
    /// Both together.
    #[must_use]
    pub fn joined(&self, others: &Self) -> Self {
        let mut all = self.clone();
        all.join(others);
        all
    }
    /// Whether the label is there.
    pub fn contains(&self, label: &Label) -> bool {
        self.0.contains(label)
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The labels, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        let mut all = Self::none();
        all.join(&Self(labels.into_iter().collect()));
        all
    }
}

/// Labels that may not come together in one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRule {
    name: &'static str,
    together: &'static [Label],
}

const RULES: &[LabelRule] = &[LabelRule {
    name: UNTRUSTED_SENSITIVE_EGRESS,
    together: &[Label::Untrusted, Label::Sensitive, Label::Egress],
}];

/// An action that a rule on labels forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}`: {} would come together", .together.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct LabelViolation {
    /// The rule.
    pub rule: &'static str,
    /// The labels it names.
    pub together: &'static [Label],
}

/// A rule that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule on labels is called `{0}`; there is `{UNTRUSTED_SENSITIVE_EGRESS}`")]
pub struct UnknownLabelRule(pub String);

/// The rules that are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRules(Vec<LabelRule>);

impl Default for LabelRules {
    /// All.
    fn default() -> Self {
        Self(RULES.to_vec())
    }
}

impl LabelRules {
    /// All but those switched off by name. That they are is for the caller to record.
    ///
    /// # Errors
    /// If there is no rule of that name.
    pub fn without<'name>(off: impl IntoIterator<Item = &'name str>) -> Result<Self, UnknownLabelRule> {
        let mut rules = Self::default();
        for name in off {
            if !RULES.iter().any(|rule| rule.name == name) {
                return Err(UnknownLabelRule(name.to_owned()));
            }
            rules.0.retain(|rule| rule.name != name);
        }
        Ok(rules)
    }
    /// The names of the rules that are on.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|rule| rule.name)
    }
    /// Judges an action: what the execution holds, together with what the action itself does and carries.
    ///
    /// `action` of a call that reaches outside has [`Label::Egress`]; of one whose answer nobody vouches for
    /// [`Label::Untrusted`] only if the answer is given out before it is labelled, which no path does: answers are
    /// joined to the execution when they come, and its next action is judged with them.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn judge(&self, execution: &Labels, action: &Labels) -> Result<(), LabelViolation> {
        let has = |label| execution.contains(label) || action.contains(label);
        match self.0.iter().find(|rule| rule.together.iter().all(has)) {
            Some(rule) => Err(LabelViolation { rule: rule.name, together: rule.together }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace().map(|label| label.parse().unwrap()).collect()
    }

    #[test]
    fn the_three_together_are_refused_and_any_two_are_not() {
        let rules = LabelRules::default();
        for (execution, action, refused) in [
            ("", "", false),
            ("untrusted", "egress", false),
            ("sensitive", "egress", false),
            ("untrusted sensitive", "", false),
            ("untrusted sensitive", "egress", true),
            ("untrusted egress", "sensitive", true),
            ("source:web", "untrusted sensitive egress", true),
            ("source:untrusted source:sensitive", "egress", false),
        ] {
            let judged = rules.judge(&labels(execution), &labels(action));
            assert_eq!(judged.is_err(), refused, "{execution} + {action}");
        }
        let violation = rules.judge(&labels("untrusted sensitive"), &labels("egress")).unwrap_err();
        let text = "`untrusted-sensitive-egress`: untrusted, sensitive, egress would come together";
        assert_eq!(violation.to_string(), text);
    }

    #[test]
    fn rules_are_switched_off_by_name() {
        let rules = LabelRules::without([UNTRUSTED_SENSITIVE_EGRESS]).unwrap();
        assert!(rules.judge(&labels("untrusted sensitive"), &labels("egress")).is_ok());
        assert_eq!(rules.names().count(), 0);
        assert!(LabelRules::without(["no-such"]).is_err());
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        for text in ["untrusted", "sensitive", "egress", "source:web:example.org/x"] {
            let label: Label = text.parse().unwrap();
            assert_eq!(
                serde_json::from_str::<Label>(&serde_json::to_string(&label).unwrap()).unwrap(),
                label
            );
            assert_eq!(label.to_string(), text);
        }
        for text in ["", "Untrusted", "source:", "source:a b", "trusted"] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }

    #[test]
    fn classes_fit_when_sources_are_too_many() {
        let mut set: Labels = (0..LABELS_MAX + 9).map(|at| Label::Source(at.to_string())).collect();
        assert_eq!(set.iter().count(), LABELS_MAX);
        let grown = set.join(&labels("untrusted sensitive source:more"));
        assert_eq!(grown, labels("untrusted sensitive"));
        assert!(set.contains(&Label::Sensitive));
    }

    fn any_labels() -> impl Strategy<Value = Labels> {
        let label = prop_oneof![
            Just(Label::Untrusted),
            Just(Label::Sensitive),
            Just(Label::Egress),
            "[a-c]{1,2}".prop_map(Label::Source),
        ];
        proptest::collection::vec(label, 0..6).prop_map(|labels| labels.into_iter().collect())
    }

    proptest! {
        #[test]
        fn joining_only_grows_and_its_order_does_not_matter(a in any_labels(), b in any_labels(), c in any_labels()) {
            let both = a.joined(&b);
            prop_assert!(a.iter().chain(b.iter()).all(|label| both.contains(label)));
            prop_assert!(both.iter().all(|label| a.contains(label) || b.contains(label)));
            prop_assert_eq!(&both, &b.joined(&a));
            prop_assert_eq!(both.joined(&c), a.joined(&b.joined(&c)));
            prop_assert_eq!(a.joined(&a), a.clone());
            let mut grown = a.clone();
            let new = grown.join(&b);
            prop_assert!(new.iter().all(|label| !a.contains(label)));
        }

        #[test]
        fn more_labels_never_permit_more(a in any_labels(), b in any_labels(), action in any_labels()) {
            let rules = LabelRules::default();
            if rules.judge(&a, &action).is_err() {
                prop_assert!(rules.judge(&a.joined(&b), &action).is_err());
            }
            prop_assert_eq!(rules.judge(&a, &action).is_ok(), rules.judge(&a.joined(&action), &Labels::none()).is_ok());
        }
    }
}
