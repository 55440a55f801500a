//! What one execution may do: a conjunction of layers, each asked alone, each only able to take away.
//!
//! The layers are those of the agent and of every ancestor in its chain: node, tenant, security context, soul and
//! manifest. Constraints say which capabilities hold; the layers, in Cedar, decide.

mod governed;
mod standing;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aegis_core::{Denial, DenialCode, Tenant};
use aegis_manifest::AgentManifest;
use aegis_security::canonical;
use aegis_security::constraint::GovernedValue;
use aegis_security::egress::EgressRules;
use aegis_security::label::Labels;
use aegis_security::policy::{
    ActionName, Explanation, Layer, LayerExplanation, Link, Question, Ruling, Verdict, evaluate, explain,
};
use serde_json::Value;

use super::labels::{CallLabels, Labelling};
use super::limiter::Limits;
use super::network::NodeNetwork;
use super::{Action, Opened, Target};
use crate::policy::Rules;
use crate::port::{EgressRequest, ToolFacts};
use crate::validation::Schema;

use governed::{GovernedValues, governed_values};
use standing::Standing;

/// One agent of a chain of those on whose behalf something is done.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its execution, as policies see it.
    pub(crate) execution: String,
    pub(crate) tenant: Tenant,
    pub(crate) manifest: Arc<AgentManifest>,
}

/// What policies see of an execution beside the call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Circumstances {
    /// Labels on the execution.
    pub(crate) labels: Vec<String>,
    /// Risk, in thousandths.
    pub(crate) risk: i64,
    /// Seconds since 1970.
    pub(crate) time: i64,
}

/// What the constraints found: which capabilities hold, why others do not, and what refuses whatever policy says.
pub(crate) struct Survey<'a> {
    action: ActionName,
    resource: Cow<'a, str>,
    arguments: &'a Value,
    governed: Vec<GovernedValue>,
    refused: Vec<Denial>,
    matched: Vec<String>,
    notes: Vec<Denial>,
    limits: Vec<(String, Limits)>,
    max_response_bytes: Option<u64>,
    egress: Option<Opened>,
}

/// A permission to go on to the intent.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    pub(crate) tenant: Tenant,
    /// The rule that permits.
    pub(crate) rule: String,
    /// Limits of every layer, by rule.
    pub(crate) limits: Vec<(String, Limits)>,
    /// Most bytes of a result.
    pub(crate) max_response_bytes: Option<u64>,
    /// What a person has to agree to, by the rule that asks.
    pub(crate) questions: Vec<(String, String)>,
    /// What a connection is made under.
    pub(crate) egress: Option<Opened>,
}

/// The compiled layers of one execution, and what they were compiled from.
pub(crate) struct Authority {
    /// The caller first, then its parent and on.
    chain: Vec<Member>,
    /// The same for policies: the outermost ancestor first.
    links: Vec<Link>,
    schemas: BTreeMap<String, Schema>,
    epoch: u64,
    /// Why nothing is permitted, if the rules that hold cannot be compiled for this execution.
    compiled: Result<Compiled, String>,
}

struct Compiled {
    standings: Vec<Standing>,
    layers: Vec<Layer>,
    labelling: Labelling,
    network: NodeNetwork,
    /// The manifests' rules on connections, then the node's.
    egress: Arc<[EgressRules]>,
}

impl Compiled {
    fn of(chain: &[Member], settings: &crate::kernel::KernelSettings) -> Result<Self, String> {
        let mut layers = Vec::new();
        let standings = (0u32..)
            .zip(chain)
            .map(|(ancestor, member)| Standing::compile(member, ancestor, settings, &mut layers))
            .collect::<Result<Vec<Standing>, _>>()?;
        let labelling = Labelling::of(&settings.config)?;
        let network = NodeNetwork::of(&settings.config)?;
        // The manifest's own words first: its author can mend them.
        let rules = standings.iter().map(|standing| &standing.egress).chain([&network.rules]);
        let egress = rules.cloned().collect();
        Ok(Self { standings, layers, labelling, network, egress })
    }
}

impl Authority {
    /// Compiles the layers of a run under the rules that hold. The caller comes first in `chain`, then its parent and
    /// on; `tools` are those the manifest lists and the node has.
    pub(crate) fn compile(
        chain: Vec<Member>,
        rules: &Rules,
        tools: &[Arc<ToolFacts>],
    ) -> Result<Self, String> {
        let schemas = tools
            .iter()
            .map(|facts| Ok((facts.schema.name.clone(), Schema::compile(&facts.schema.parameters)?)))
            .collect::<Result<_, String>>()?;
        let links = chain.iter().rev().map(Member::link).collect();
        let (epoch, settings) = rules.current();
        let compiled = Ok(Compiled::of(&chain, &settings)?);
        Ok(Self { chain, links, schemas, epoch, compiled })
    }

    /// The same chain once more, for another who speaks for the execution, under the rules that hold.
    pub(super) fn again(&self, rules: &Rules, tools: &[Arc<ToolFacts>]) -> Result<Self, String> {
        Self::compile(self.chain.clone(), rules, tools)
    }

    /// Compiles anew if the rules have changed. What cannot be compiled permits nothing.
    pub(crate) fn refresh(&mut self, rules: &Rules) {
        if self.epoch != rules.epoch() {
            let (epoch, settings) = rules.current();
            (self.epoch, self.compiled) = (epoch, Compiled::of(&self.chain, &settings));
        }
    }

    /// What an action brings with it: a model's and a judge's calls nothing.
    pub(crate) fn labels(&self, action: &Action<'_>) -> CallLabels {
        match (&self.compiled, action.target) {
            (Ok(compiled), Target::Tool { call, facts: Some(facts), .. }) => {
                compiled.labelling.of_call(&call.name, facts)
            }
            (Ok(compiled), Target::Connect { request, .. }) => {
                Labelling::of_connection(&request.host, compiled.network.trusts(&request.host))
            }
            _ => CallLabels::default(),
        }
    }

    /// The rules on labels.
    pub(crate) fn judge_labels(&self, held: &Labels, action: &Labels) -> Result<(), Denial> {
        self.compiled()?.labelling.judge(held, action)
    }

    /// The epoch of the rules it was compiled from.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The static constraints of every layer: which capabilities hold for the action.
    pub(crate) fn constraints<'a>(&self, action: &Action<'a>) -> Result<Survey<'a>, Denial> {
        let mut survey = self.survey(action)?;
        if survey.refused.is_empty() { Ok(survey) } else { Err(survey.refused.swap_remove(0)) }
    }

    /// Policy: every layer of every agent of the chain.
    pub(crate) fn authorise(
        &self,
        survey: Survey<'_>,
        circumstances: &Circumstances,
    ) -> Result<Permit, Denial> {
        let verdict = evaluate(&self.compiled()?.layers, &self.question(&survey, circumstances));
        if let Some(denial) = verdict.denial() {
            return Err(denial);
        }
        let Survey { limits, max_response_bytes, egress, .. } = survey;
        Ok(Permit {
            tenant: self.chain.first().map_or_else(Tenant::default_tenant, |member| member.tenant.clone()),
            rule: permitting(&verdict, survey.action),
            limits,
            max_response_bytes,
            questions: verdict.questions().cloned().collect(),
            egress,
        })
    }

    /// What every layer says of an action, and why: by the same constraints and the same layers.
    pub(crate) fn explain(
        &self,
        action: &Action<'_>,
        circumstances: &Circumstances,
    ) -> Result<Explanation, Denial> {
        let survey = self.survey(action)?;
        let mut explanation = explain(&self.compiled()?.layers, &self.question(&survey, circumstances));
        if let Some(first) = survey.refused.first() {
            explanation.ruling = Ruling::Deny;
            explanation.code = Some(first.code.name().to_owned());
            let refused = survey.refused.iter().map(refusal);
            explanation.layers = refused.chain(std::mem::take(&mut explanation.layers)).collect();
        }
        Ok(explanation)
    }

    fn compiled(&self) -> Result<&Compiled, Denial> {
        self.compiled.as_ref().map_err(|reason| Denial {
            code: DenialCode::ToolNotAllowed,
            rule: "node:policy".to_owned(),
            message: format!("the rules of this node permit nothing here: {reason}."),
            remedy: "mend the node's configuration, and reload it".to_owned(),
        })
    }

    fn question<'a>(&'a self, survey: &'a Survey<'_>, circumstances: &'a Circumstances) -> Question<'a> {
        Question {
            chain: &self.links,
            action: survey.action,
            resource: &survey.resource,
            governed: &survey.governed,
            arguments: survey.arguments,
            matched: &survey.matched,
            notes: &survey.notes,
            labels: &circumstances.labels,
            risk: circumstances.risk,
            time: circumstances.time,
        }
    }

    fn survey<'a>(&self, action: &Action<'a>) -> Result<Survey<'a>, Denial> {
        match action.target {
            Target::Model { alias, .. } => Ok(Survey::of(ActionName::AskModel, alias, &NO_ARGUMENTS)),
            Target::Judge { alias, .. } => Ok(Survey::of(ActionName::Judge, alias, &NO_ARGUMENTS)),
            Target::Connect { request, .. } => self.survey_connection(request),
            Target::Tool { call, facts, .. } => {
                let mut survey = Survey::of(ActionName::CallTool, call.name.as_str(), &call.arguments);
                if !self.lists(&call.name) {
                    survey.refused.push(no_tool(&call.name, "the manifest does not list it."));
                } else if facts.is_none() {
                    survey.refused.push(no_tool(&call.name, "no such tool exists on this node."));
                }
                let Some(facts) = facts else { return Ok(survey) };
                match self.readable(&call.arguments, facts) {
                    Ok(governed) => {
                        for standing in &self.compiled()?.standings {
                            standing.survey((&call.name, &call.arguments), &governed, &mut survey);
                        }
                        survey.governed = governed.values;
                    }
                    Err(denial) => survey.refused.push(denial),
                }
                Ok(survey)
            }
        }
    }

    /// The static rules on a connection: those of the node and of every manifest of the chain.
    fn survey_connection<'a>(&self, request: &EgressRequest) -> Result<Survey<'a>, Denial> {
        let compiled = self.compiled()?;
        let mut survey = Survey::of(ActionName::Connect, request.host.to_string(), &NO_ARGUMENTS);
        let mut raw = true;
        for rules in compiled.egress.iter() {
            match rules.permits_name(&request.host, request.port) {
                Ok(permit) => raw &= permit.raw,
                Err(denial) => survey.refused.push(denial),
            }
            let matching = rules.matching(&request.host, request.port).into_iter();
            survey.matched.extend(matching.map(|index| format!("{}/network:{index}", rules.layer())));
        }
        survey.limits.push(compiled.network.limits());
        survey.egress = Some(Opened { layers: Arc::clone(&compiled.egress), raw });
        Ok(survey)
    }

    /// What is not on this node, or has arguments nobody can check, is refused whatever policy says.
    fn readable(&self, arguments: &Value, facts: &ToolFacts) -> Result<GovernedValues, Denial> {
        let name = &facts.schema.name;
        let refuse = |message: String, remedy: &str| Denial {
            code: DenialCode::InvalidArguments,
            rule: format!("tool:{name}/schema"),
            message,
            remedy: remedy.to_owned(),
        };
        canonical::to_bytes(arguments).map_err(|error| {
            refuse(
                format!("the arguments cannot be recorded exactly: {error}."),
                "call it with arguments that every reader of JSON reads alike",
            )
        })?;
        let violation = match self.schemas.get(name) {
            Some(schema) => schema.violation(arguments),
            // A tool that came later than this run.
            None => match Schema::compile(&facts.schema.parameters) {
                Ok(schema) => schema.violation(arguments),
                Err(error) => Some(error),
            },
        };
        if let Some(violation) = violation {
            return Err(refuse(
                format!("the arguments do not satisfy the tool's schema: {violation}."),
                "call it with arguments of the schema",
            ));
        }
        governed_values(facts, arguments)
    }

    /// Whether the caller's manifest lists a tool: told before what else is wrong with a call.
    fn lists(&self, tool: &str) -> bool {
        let caller = self.chain.first();
        caller.is_some_and(|caller| caller.manifest.spec.tools.iter().any(|listed| listed.name == tool))
    }
}

fn no_tool(tool: &str, reason: &str) -> Denial {
    Denial {
        code: DenialCode::ToolNotAllowed,
        rule: "manifest:tools".to_owned(),
        message: format!("`{tool}`: {reason}"),
        remedy: "list it in spec.tools".to_owned(),
    }
}

static NO_ARGUMENTS: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

impl<'a> Survey<'a> {
    fn of(action: ActionName, resource: impl Into<Cow<'a, str>>, arguments: &'a Value) -> Self {
        Self {
            action,
            resource: resource.into(),
            arguments,
            governed: Vec::new(),
            refused: Vec::new(),
            matched: Vec::new(),
            notes: Vec::new(),
            limits: Vec::new(),
            max_response_bytes: None,
            egress: None,
        }
    }
}

impl Member {
    fn link(&self) -> Link {
        Link {
            execution: self.execution.clone(),
            agent: self.manifest.metadata.name.to_string(),
            version: self.manifest.metadata.version.clone(),
            tenant: self.tenant.to_string(),
        }
    }
}

/// The rule that is recorded with an intent: the capability of the caller's context for a tool, else the manifest's.
fn permitting(verdict: &Verdict, action: ActionName) -> String {
    let kind = if action == ActionName::CallTool { "context:" } else { "manifest:" };
    let layer = verdict.layers.iter().find(|layer| layer.layer.starts_with(kind));
    layer
        .and_then(|layer| layer.rules.first().cloned())
        .unwrap_or_else(|| kind.trim_end_matches(':').to_owned())
}

/// A refusal of the constraints, shown beside the layers.
fn refusal(denial: &Denial) -> LayerExplanation {
    LayerExplanation {
        layer: denial.rule.clone(),
        ruling: Ruling::Deny,
        cause: None,
        rules: vec![denial.rule.clone()],
        reason: denial.message.clone(),
        questions: Vec::new(),
        unmet: Vec::new(),
        remedy: Some(denial.remedy.clone()),
    }
}
