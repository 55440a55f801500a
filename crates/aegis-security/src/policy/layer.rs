//! A layer: named, compiled policies.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect, Policy, PolicyId, PolicySet, ValidationMode};
use serde_json::Value;

use super::PolicyError;
use super::analysis::Uses;
use super::draft::Draft;
use super::schema::{ActionName, Vocabulary};

/// Most rules of a layer: all of them are asked for every action.
pub const LAYER_RULES_MAX: usize = 1000;

/// One rule of a layer.
#[derive(Debug)]
pub(super) struct Rule {
    /// `KIND:INDEX`
    pub(super) id: String,
    pub(super) permits: bool,
    /// The question it asks, if it does.
    pub(super) ask: Option<String>,
    /// What it says, for people.
    pub(super) says: String,
    pub(super) remedy: String,
    /// In Cedar's JSON, for explanations.
    pub(super) json: Value,
}

pub(super) struct Compiled {
    /// Those that can be about an action, by its place in [`ActionName::ALL`].
    policies: Vec<PolicySet>,
    pub(super) rules: Vec<Rule>,
    places: HashMap<PolicyId, usize>,
    pub(super) uses: Uses,
}

/// Named, compiled policies, validated against the schema. Cheap to clone.
#[derive(Clone)]
pub struct Layer {
    name: Arc<str>,
    ancestor: u32,
    compiled: Arc<Compiled>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules = self.compiled.rules.len();
        f.debug_struct("Layer").field("name", &self.name).field("rules", &rules).finish_non_exhaustive()
    }
}

impl Layer {
    /// Its name: `node`, `tenant:NAME`, `context:NAME`, `soul:NAME`, `manifest:NAME@VERSION`, perhaps after
    /// `ancestor:N/`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Whose layer it is: 0 of the caller itself, 1 of its parent.
    pub fn ancestor(&self) -> u32 {
        self.ancestor
    }
    /// The same policies as a layer of the `ancestor`th ancestor (1 is the parent): asked about that link of the chain.
    #[must_use]
    pub fn of_ancestor(&self, ancestor: u32) -> Self {
        let own = self.name.strip_prefix(&prefix(self.ancestor)).unwrap_or(&self.name);
        Self {
            name: format!("{}{own}", prefix(ancestor)).into(),
            ancestor,
            compiled: Arc::clone(&self.compiled),
        }
    }
    /// The names of its rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = String> {
        self.compiled.rules.iter().map(|rule| self.rule_name(rule))
    }
    pub(super) fn compiled(&self) -> &Compiled {
        &self.compiled
    }
    pub(super) fn rule_name(&self, rule: &Rule) -> String {
        format!("{}/{}", self.name, rule.id)
    }
    /// The rules of that name.
    pub(super) fn rules_of<'a>(&'a self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<&'a Rule> {
        let compiled = &self.compiled;
        let mut places: Vec<usize> = ids.filter_map(|id| compiled.places.get(id).copied()).collect();
        // Cedar answers with a set: reports are in the order of the rules.
        places.sort_unstable();
        places.into_iter().filter_map(|place| compiled.rules.get(place)).collect()
    }

    /// Compiles rules that were built here.
    pub(super) fn compile(layer: String, drafts: Vec<Draft>) -> Result<Self, PolicyError> {
        let mut rules = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let json = draft.to_json();
            let wrong = |error: &dyn std::fmt::Display| PolicyError::Rule {
                rule: format!("{layer}/{}", draft.id),
                reason: error.to_string(),
            };
            let policy = Policy::from_json(Some(PolicyId::new(&draft.id)), json.clone())
                .map_err(|error| wrong(&error))?;
            let permits = policy.effect() == Effect::Permit;
            let Draft { id, ask, says, remedy, .. } = draft;
            rules.push((Rule { id, permits, ask, says, remedy, json }, policy));
        }
        Self::assemble(layer, rules)
    }

    /// Puts rules together and validates them.
    pub(super) fn assemble(layer: String, rules: Vec<(Rule, Policy)>) -> Result<Self, PolicyError> {
        if rules.len() > LAYER_RULES_MAX {
            return Err(PolicyError::Rules { layer, rules: rules.len() });
        }
        let vocabulary = Vocabulary::get()?;
        let mut compiled = Compiled {
            policies: vec![PolicySet::new(); ActionName::ALL.len()],
            rules: Vec::with_capacity(rules.len()),
            places: HashMap::with_capacity(rules.len()),
            uses: Uses::default(),
        };
        let mut whole = PolicySet::new();
        for (place, (rule, policy)) in rules.into_iter().enumerate() {
            compiled.places.insert(policy.id().clone(), place);
            compiled.uses.join(Uses::of(&rule.json));
            let wrong = |reason: String| PolicyError::Rule { rule: format!("{layer}/{}", rule.id), reason };
            for (action, policies) in ActionName::ALL.into_iter().zip(&mut compiled.policies) {
                if may_be_about(&policy, action, vocabulary) {
                    policies.add(policy.clone()).map_err(|error| wrong(error.to_string()))?;
                }
            }
            whole.add(policy).map_err(|error| wrong(error.to_string()))?;
            compiled.rules.push(rule);
        }
        let result = vocabulary.validator().validate(&whole, ValidationMode::Strict);
        match result.validation_errors().next() {
            Some(error) => Err(PolicyError::Rule {
                rule: format!("{layer}/{}", error.policy_id()),
                reason: error.to_string(),
            }),
            None => Ok(Self { name: layer.into(), ancestor: 0, compiled: Arc::new(compiled) }),
        }
    }
}

impl Compiled {
    /// The policies that can be about `action`: the others are false for it, whatever else is asked.
    pub(super) fn policies(&self, action: ActionName) -> Option<&PolicySet> {
        self.policies.get(action as usize)
    }
}

/// Whether a policy's scope leaves room for an action. No action is in another, so being in is being equal.
fn may_be_about(policy: &Policy, action: ActionName, vocabulary: &Vocabulary) -> bool {
    let action = vocabulary.action(action);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => action.as_ref() == Some(&uid),
        ActionConstraint::In(uids) => uids.iter().any(|uid| action.as_ref() == Some(uid)),
    }
}

/// What stands before the name of an ancestor's layer.
pub(super) fn prefix(ancestor: u32) -> String {
    if ancestor == 0 { String::new() } else { format!("ancestor:{ancestor}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_looked_at_for_its_actions_alone() {
        let actions = [
            ("action == Aegis::Action::\"call_tool\"", vec![ActionName::CallTool]),
            ("action in [Aegis::Action::\"connect\"]", vec![ActionName::Connect]),
            (
                "action in [Aegis::Action::\"mount\", Aegis::Action::\"judge\"]",
                vec![ActionName::Mount, ActionName::Judge],
            ),
            ("action", ActionName::ALL.to_vec()),
        ];
        for (scope, about) in actions {
            let layer = Layer::from_text("node", &format!("permit(principal, {scope}, resource);")).unwrap();
            for action in ActionName::ALL {
                let rules = layer.compiled().policies(action).unwrap().policies().count();
                assert_eq!(rules, usize::from(about.contains(&action)), "{scope}: {action}");
            }
        }
    }

    #[test]
    fn a_layer_shows_its_name_and_how_many_rules_it_has() {
        let layer = Layer::from_text("node", "permit(principal, action, resource);").unwrap();
        assert_eq!(format!("{layer:?}"), "Layer { name: \"node\", rules: 1, .. }");
    }
}
