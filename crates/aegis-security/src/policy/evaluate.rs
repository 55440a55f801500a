//! The verdict: every layer asked alone, any denial denies, else any question asks.

use aegis_core::{Denial, DenialCode};
use cedar_policy::{Authorizer, Decision, Request, Response};
use serde::{Deserialize, Serialize};

use super::Layer;
use super::layer::Rule;
use super::question::{Prepared, Question, Unintelligible};
use super::schema::{ActionName, Vocabulary};
use crate::constraint::GovernedValue;

/// What a layer, or all together, say. The later in this order wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It may be done.
    Permit,
    /// A person decides.
    Ask,
    /// It may not.
    Deny,
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Ask => "ask",
            Self::Deny => "deny",
        })
    }
}

/// Why a layer denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A rule forbids it.
    Forbidden,
    /// No rule permits it.
    NotPermitted,
    /// A rule could not be evaluated.
    PolicyError,
    /// The question itself cannot be put to rules.
    Unintelligible,
}

/// A layer's denial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// Code, rule, reason and remedy.
    pub denial: Denial,
    /// The governed value it is about: the same question without it would not be denied.
    pub value: Option<GovernedValue>,
}

/// What one layer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerVerdict {
    /// The layer's name.
    pub layer: String,
    /// What it says.
    pub ruling: Ruling,
    /// The rules that decided, in the layer's order; none where no rule permits.
    pub rules: Vec<String>,
    /// What a person is asked, by rule.
    pub questions: Vec<(String, String)>,
    /// If it denies, why.
    pub refusal: Option<Refusal>,
}

/// What all layers say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Any denial denies, else any question asks. Without any layer, nothing is permitted.
    pub ruling: Ruling,
    /// Each layer's verdict, in the order of the layers.
    pub layers: Vec<LayerVerdict>,
}

impl Verdict {
    fn of(layers: Vec<LayerVerdict>) -> Self {
        let ruling = layers.iter().map(|layer| layer.ruling).max().unwrap_or(Ruling::Deny);
        Self { ruling, layers }
    }
    /// The first layer's denial, if any denies.
    pub fn denial(&self) -> Option<Denial> {
        if self.layers.is_empty() {
            return Some(Denial {
                code: DenialCode::ToolNotAllowed,
                rule: "policy".to_owned(),
                message: "no layer of policy stands, and nothing is permitted without one".to_owned(),
                remedy: "name a security context".to_owned(),
            });
        }
        self.layers.iter().find_map(|layer| layer.refusal.as_ref()).map(|refusal| refusal.denial.clone())
    }
    /// What a person is asked, by rule; empty unless the verdict is to ask.
    pub fn questions(&self) -> impl Iterator<Item = &(String, String)> {
        let asks = self.ruling == Ruling::Ask;
        self.layers.iter().filter(move |_| asks).flat_map(|layer| &layer.questions)
    }
}

/// Asks every layer, each alone. Nothing but the arguments of this function counts.
pub fn evaluate(layers: &[Layer], question: &Question<'_>) -> Verdict {
    let with_arguments = layers.iter().any(|layer| layer.compiled().uses.arguments);
    let prepared = prepare(question, with_arguments);
    let authorizer = Authorizer::new();
    let mut requests = Requests::default();
    let verdicts = layers.iter().map(|layer| match &prepared {
        Ok(prepared) => ask(layer, prepared, &authorizer, &mut requests),
        Err(error) => unintelligible(layer, error),
    });
    Verdict::of(verdicts.collect())
}

pub(super) fn prepare<'call>(
    question: &Question<'call>,
    with_arguments: bool,
) -> Result<Prepared<'call>, Unintelligible> {
    let vocabulary = Vocabulary::get()
        .map_err(|error| Unintelligible { code: DenialCode::ToolNotAllowed, reason: error.to_string() })?;
    Prepared::new(*question, vocabulary, with_arguments)
}

/// Requests already built: by ancestor and place of the governed value.
#[derive(Default)]
struct Requests(Vec<((u32, Option<usize>), Request)>);

impl Requests {
    fn get(
        &mut self,
        prepared: &Prepared<'_>,
        ancestor: u32,
        value: Option<usize>,
    ) -> Result<Request, Unintelligible> {
        let key = (ancestor, value);
        if let Some((_, request)) = self.0.iter().find(|(known, _)| *known == key) {
            return Ok(request.clone());
        }
        let request = prepared.request(ancestor, value)?;
        self.0.push((key, request.clone()));
        Ok(request)
    }
}

/// The places of the governed values a layer is asked about: none, where it looks at none.
pub(super) fn values(layer: &Layer, question: &Question<'_>) -> Vec<Option<usize>> {
    if layer.compiled().uses.values && !question.governed.is_empty() {
        (0..question.governed.len()).map(Some).collect()
    } else {
        vec![None]
    }
}

fn ask(
    layer: &Layer,
    prepared: &Prepared<'_>,
    authorizer: &Authorizer,
    requests: &mut Requests,
) -> LayerVerdict {
    let mut whole: Option<LayerVerdict> = None;
    let Some(policies) = layer.compiled().policies(prepared.question().action) else {
        let reason = "the layer knows no such action".to_owned();
        return unintelligible(layer, &Unintelligible { code: DenialCode::ToolNotAllowed, reason });
    };
    for value in values(layer, prepared.question()) {
        let request = match requests.get(prepared, layer.ancestor(), value) {
            Ok(request) => request,
            Err(error) => return unintelligible(layer, &error),
        };
        let response = authorizer.is_authorized(&request, policies, &prepared.entities);
        let mut one = read(layer, prepared.question(), &response);
        if one.ruling == Ruling::Deny {
            if value.is_some() {
                let without = requests.get(prepared, layer.ancestor(), None).is_ok_and(|request| {
                    let response = authorizer.is_authorized(&request, policies, &prepared.entities);
                    read(layer, prepared.question(), &response).ruling != Ruling::Deny
                });
                let value = value.and_then(|place| prepared.question().governed.get(place));
                if let (true, Some(value), Some(refusal)) = (without, value, one.refusal.as_mut()) {
                    blame(refusal, value);
                }
            }
            return one;
        }
        whole = Some(match whole {
            None => one,
            Some(known) => join(known, one),
        });
    }
    whole.unwrap_or_else(|| {
        let reason = "nothing was asked".to_owned();
        unintelligible(layer, &Unintelligible { code: DenialCode::ToolNotAllowed, reason })
    })
}

/// Both permitted or asked.
fn join(mut known: LayerVerdict, other: LayerVerdict) -> LayerVerdict {
    known.ruling = known.ruling.max(other.ruling);
    for rule in other.rules {
        if !known.rules.contains(&rule) {
            known.rules.push(rule);
        }
    }
    for asked in other.questions {
        if !known.questions.contains(&asked) {
            known.questions.push(asked);
        }
    }
    known
}

/// Reads Cedar's answer: any error denies; a determining permit that asks wins over plain ones.
pub(super) fn read(layer: &Layer, question: &Question<'_>, response: &Response) -> LayerVerdict {
    let diagnostics = response.diagnostics();
    if let Some(error) = diagnostics.errors().next() {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(inner) = error;
        let failed = layer.rules_of(std::iter::once(inner.policy_id()));
        let reason = format!("a rule could not be evaluated: {}", inner.inner());
        let remedy =
            "mend the rule: test with `has` or `hasTag` before reading what may be absent".to_owned();
        return denied(layer, question, Cause::PolicyError, &failed, reason, remedy);
    }
    let determining = layer.rules_of(diagnostics.reason());
    match response.decision() {
        Decision::Allow => {
            let questions: Vec<_> = determining
                .iter()
                .filter_map(|rule| Some((layer.rule_name(rule), rule.ask.clone()?)))
                .collect();
            LayerVerdict {
                layer: layer.name().to_owned(),
                ruling: if questions.is_empty() { Ruling::Permit } else { Ruling::Ask },
                rules: determining.iter().map(|rule| layer.rule_name(rule)).collect(),
                questions,
                refusal: None,
            }
        }
        Decision::Deny => match determining.first() {
            Some(rule) => {
                let (reason, remedy) = (rule.says.clone(), rule.remedy.clone());
                denied(layer, question, Cause::Forbidden, &determining, reason, remedy)
            }
            None => {
                let (action, resource) = (question.action, question.resource);
                let reason = format!("no rule of `{}` permits `{action}` on `{resource}`", layer.name());
                let remedy = remedy_of(layer, question);
                denied(layer, question, Cause::NotPermitted, &[], reason, remedy)
            }
        },
    }
}

/// What would permit it, where no rule does.
fn remedy_of(layer: &Layer, question: &Question<'_>) -> String {
    let (name, resource) = (layer.name(), question.resource);
    let own = name.rsplit_once('/').map_or(name, |(_, own)| own);
    match (own.split_once(':'), question.action) {
        (Some(("context", context)), _) => {
            format!("add a capability with tool_pattern `{resource}` to security context `{context}`")
        }
        (Some(("manifest", _)), ActionName::CallTool) => format!("list `{resource}` in spec.tools"),
        (Some(("manifest", _)), ActionName::AskModel) => format!("name `{resource}` in spec.runtime.model"),
        (Some(("manifest", _)), ActionName::Connect) => {
            format!("add `{resource}` to spec.security.network.allowlist, with mode allow")
        }
        (Some(("manifest", _)), ActionName::Mount) => format!("list `{resource}` in spec.volumes"),
        (Some(("manifest", _)), ActionName::Judge) => "add a judge to spec.execution.validation".to_owned(),
        _ => format!("add a permit to the policy of `{name}`"),
    }
}

fn denied(
    layer: &Layer,
    question: &Question<'_>,
    cause: Cause,
    rules: &[&Rule],
    reason: String,
    remedy: String,
) -> LayerVerdict {
    let rules: Vec<String> = rules.iter().map(|rule| layer.rule_name(rule)).collect();
    let below = format!("{}/", layer.name());
    let note = question.notes.iter().find(|note| note.rule.starts_with(&below));
    let denial = match (cause, note) {
        (Cause::NotPermitted, Some(note)) => note.clone(),
        _ => Denial {
            code: code(cause, question.action),
            rule: rules.first().cloned().unwrap_or_else(|| layer.name().to_owned()),
            message: reason,
            remedy,
        },
    };
    LayerVerdict {
        layer: layer.name().to_owned(),
        ruling: Ruling::Deny,
        rules,
        questions: Vec::new(),
        refusal: Some(Refusal { cause, denial, value: None }),
    }
}

fn code(cause: Cause, action: ActionName) -> DenialCode {
    match (action, cause) {
        (ActionName::Connect, _) => DenialCode::DomainNotAllowed,
        (ActionName::CallTool, Cause::Forbidden) => DenialCode::ToolExplicitlyDenied,
        _ => DenialCode::ToolNotAllowed,
    }
}

/// Says that the denial is about one governed value.
fn blame(refusal: &mut Refusal, value: &GovernedValue) {
    let (code, what) = match value {
        GovernedValue::Path(path) => (DenialCode::PathNotAllowed, format!("path `{path}`")),
        GovernedValue::Domain(host) => (DenialCode::DomainNotAllowed, format!("domain `{host}`")),
        GovernedValue::Command { argv, .. } => {
            let program = argv.first().map_or("", String::as_str);
            (DenialCode::CommandNotAllowed, format!("command `{program}`"))
        }
    };
    if refusal.cause != Cause::PolicyError {
        refusal.denial.code = code;
    }
    refusal.denial.message = format!("{what}: {}", refusal.denial.message);
    refusal.value = Some(value.clone());
}

pub(super) fn unintelligible(layer: &Layer, error: &Unintelligible) -> LayerVerdict {
    let denial = Denial {
        code: error.code,
        rule: layer.name().to_owned(),
        message: error.reason.clone(),
        remedy: "ask with names, paths and hosts that can be understood".to_owned(),
    };
    LayerVerdict {
        layer: layer.name().to_owned(),
        ruling: Ruling::Deny,
        rules: Vec::new(),
        questions: Vec::new(),
        refusal: Some(Refusal { cause: Cause::Unintelligible, denial, value: None }),
    }
}
