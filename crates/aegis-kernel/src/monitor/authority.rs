//! What one execution may do: a conjunction of layers, each asked alone, each only able to take away.
//!
//! The layers that stand: the manifest (its tools and its file rules) and the security context. Policy (Cedar), soul
//! and ancestors are further layers of the same form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Denial, DenialCode, Tenant};
use aegis_manifest::{AgentManifest, NodeConfig};
use aegis_security::canonical;
use aegis_security::constraint::{
    self, Capability, ConstraintError, Decision, GovernedValue, PathPattern, RateLimit, Request,
    SecurityContext,
};
use serde_json::Value;

use super::limiter::Limits;
use super::{Action, Target};
use crate::port::{Access, GovernedKind, ToolFacts};
use crate::validation::Schema;

/// What the constraints matched: the rule that permits, and the limits that come with it.
pub(crate) struct Matched {
    rule: String,
    limits: Vec<(String, Limits)>,
    max_response_bytes: Option<u64>,
}

/// A permission to go on to the intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permit {
    pub(crate) tenant: Tenant,
    /// The rule that permits.
    pub(crate) rule: String,
    /// Limits of every layer, by rule.
    pub(crate) limits: Vec<(String, Limits)>,
    /// Most bytes of a result.
    pub(crate) max_response_bytes: Option<u64>,
    /// Whether a person has to agree.
    pub(crate) ask: bool,
}

/// The compiled layers of one execution.
pub(crate) struct Authority {
    tenant: Tenant,
    model: String,
    tools: Vec<String>,
    schemas: BTreeMap<String, Schema>,
    read: Vec<PathPattern>,
    write: Vec<PathPattern>,
    context: SecurityContext,
    /// What capabilities demand of arguments, beside the schema as the context states it.
    argument_schemas: Vec<(Value, Schema)>,
}

impl Authority {
    /// Compiles the layers of a run.
    pub(crate) fn compile(
        tenant: &Tenant,
        manifest: &AgentManifest,
        config: &NodeConfig,
        tools: &[Arc<ToolFacts>],
    ) -> Result<Self, String> {
        let spec = &manifest.spec;
        let name =
            spec.security_context.as_deref().unwrap_or(aegis_manifest::node::SecurityContext::DEFAULT_NAME);
        let context = config
            .spec
            .security_context(name)
            .ok_or_else(|| format!("this node has no security context `{name}`"))?;
        let read_only = spec.security.filesystem.read_only;
        let write = if read_only { Ok(Vec::new()) } else { patterns(&spec.security.filesystem.write) };
        let schemas = tools
            .iter()
            .map(|facts| Ok((facts.schema.name.clone(), Schema::compile(&facts.schema.parameters)?)))
            .collect::<Result<_, String>>()?;
        let demanded = context.capabilities.iter().filter_map(|capability| capability.arguments.clone());
        let argument_schemas = demanded
            .map(|schema| {
                let schema = Value::Object(schema);
                let compiled = Schema::compile(&schema)?;
                Ok((schema, compiled))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            tenant: tenant.clone(),
            model: spec.runtime.model.clone(),
            tools: spec.tools.iter().map(|tool| tool.name.clone()).collect(),
            schemas,
            read: patterns(&spec.security.filesystem.read).map_err(|error| error.to_string())?,
            write: write.map_err(|error| error.to_string())?,
            context: compile_context(&context).map_err(|error| error.to_string())?,
            argument_schemas,
        })
    }

    /// The static constraints of every layer.
    pub(crate) fn constraints(&self, action: &Action<'_>) -> Result<Matched, Denial> {
        match action.target {
            Target::Model { alias, .. } if alias != self.model => Err(Denial {
                code: DenialCode::ToolNotAllowed,
                rule: "manifest:runtime.model".to_owned(),
                message: format!("the manifest names model `{}`, not `{alias}`.", self.model),
                remedy: "name the model in spec.runtime.model".to_owned(),
            }),
            Target::Model { .. } => Ok(Matched::by("manifest:runtime.model")),
            Target::Judge { .. } => Ok(Matched::by("manifest:execution.validation")),
            Target::Tool { call, facts, .. } => self.tool(&call.name, &call.arguments, facts),
        }
    }

    /// Policy. The layers that decide without Cedar have decided; the permission they gave is what remains.
    #[expect(clippy::unnecessary_wraps, reason = "the stage of the policy layers")]
    pub(crate) fn authorise(&self, _action: &Action<'_>, matched: Matched) -> Result<Permit, Denial> {
        let Matched { rule, limits, max_response_bytes } = matched;
        Ok(Permit { tenant: self.tenant.clone(), rule, limits, max_response_bytes, ask: false })
    }

    fn tool(&self, name: &str, arguments: &Value, facts: Option<&ToolFacts>) -> Result<Matched, Denial> {
        let listed = self.tools.iter().any(|tool| tool == name);
        let (true, Some(facts)) = (listed, facts) else {
            let message =
                if listed { "no such tool exists on this node." } else { "the manifest does not list it." };
            return Err(Denial {
                code: DenialCode::ToolNotAllowed,
                rule: "manifest:tools".to_owned(),
                message: format!("`{name}`: {message}"),
                remedy: "list it in spec.tools".to_owned(),
            });
        };
        canonical::to_bytes(arguments).map_err(|error| Denial {
            code: DenialCode::InvalidArguments,
            rule: format!("tool:{name}/schema"),
            message: format!("the arguments cannot be recorded exactly: {error}."),
            remedy: "call it with arguments that every reader of JSON reads alike".to_owned(),
        })?;
        if let Some(violation) = self.schemas.get(name).and_then(|schema| schema.violation(arguments)) {
            return Err(Denial {
                code: DenialCode::InvalidArguments,
                rule: format!("tool:{name}/schema"),
                message: format!("the arguments do not satisfy the tool's schema: {violation}."),
                remedy: "call it with arguments of the schema".to_owned(),
            });
        }
        self.files(arguments, facts)?;
        self.security_context(name, arguments, facts)
    }

    /// The manifest's file rules, on every path the tool declares.
    fn files(&self, arguments: &Value, facts: &ToolFacts) -> Result<(), Denial> {
        for governed in &facts.governed {
            let GovernedKind::Path(access) = governed.kind else { continue };
            let given = path_argument(arguments, &governed.argument);
            let refuse = |message: String| Denial {
                code: DenialCode::PathNotAllowed,
                rule: "manifest:security.filesystem".to_owned(),
                message,
                remedy: "add the path to spec.security.filesystem".to_owned(),
            };
            let path = constraint::normalise(given).map_err(|error| refuse(format!("{error}.")))?;
            let written = self.write.iter().any(|pattern| pattern.matches(&path));
            let permitted = match access {
                Access::Write => written,
                // A folder on the way to something readable may be looked at; the file core shows only what may be seen.
                Access::Read => {
                    let mut patterns = self.read.iter().chain(&self.write);
                    patterns.any(|pattern| pattern.matches(&path) || pattern.leads_below(&path))
                }
            };
            if !permitted {
                let verb = if access == Access::Write { "writing" } else { "reading" };
                return Err(refuse(format!("{verb} `{path}` is not permitted.")));
            }
        }
        Ok(())
    }

    fn check_arguments(&self, schema: &Value, arguments: &Value) -> Result<(), String> {
        let compiled = self.argument_schemas.iter().find(|(stated, _)| stated == schema);
        let (_, compiled) = compiled.ok_or("this schema is not one of the security context's")?;
        compiled.violation(arguments).map_or(Ok(()), Err)
    }

    fn security_context(&self, name: &str, arguments: &Value, facts: &ToolFacts) -> Result<Matched, Denial> {
        let governed: Vec<GovernedValue> = facts
            .governed
            .iter()
            .map(|governed| match governed.kind {
                GovernedKind::Path(_) => {
                    GovernedValue::Path(path_argument(arguments, &governed.argument).to_owned())
                }
                GovernedKind::Command => command_argument(arguments, &governed.argument),
                // No tool here declares one yet; an empty host matches no pattern.
                GovernedKind::Url | GovernedKind::Domain => GovernedValue::Domain(String::new()),
            })
            .collect();
        let request = Request { tool: name, governed: &governed, arguments };
        let check = |schema: &Value, arguments: &Value| self.check_arguments(schema, arguments);
        match constraint::evaluate(&self.context, request, &check) {
            Decision::Deny(denial) => Err(denial),
            Decision::Allow { capability_index } => {
                let rule = format!("context:{}/capability:{capability_index}", self.context.name());
                let capability = self.context.capability(capability_index);
                let limits = Limits {
                    rate: capability.and_then(|capability| capability.rate_limit).map(
                        |RateLimit { calls, per_seconds }| (calls, Duration::from_secs(per_seconds.into())),
                    ),
                    concurrent: capability.and_then(|capability| capability.max_concurrent),
                };
                let max_response_bytes = capability.and_then(|capability| capability.max_response_size);
                Ok(Matched { limits: vec![(rule.clone(), limits)], rule, max_response_bytes })
            }
        }
    }
}

impl Matched {
    fn by(rule: &str) -> Self {
        Self { rule: rule.to_owned(), limits: Vec::new(), max_response_bytes: None }
    }
}

/// A path the model left out is the workspace, as for the tool itself.
fn path_argument<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or(constraint::WORKSPACE)
}

fn command_argument(arguments: &Value, name: &str) -> GovernedValue {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut argv: Vec<String> = arguments.get(name).and_then(text).into_iter().collect();
    argv.extend(arguments.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(text));
    GovernedValue::Command { argv, cwd: arguments.get("cwd").and_then(text) }
}

fn patterns(texts: &[String]) -> Result<Vec<PathPattern>, ConstraintError> {
    texts.iter().map(|text| PathPattern::new(text)).collect()
}

fn compile_context(
    context: &aegis_manifest::node::SecurityContext,
) -> Result<SecurityContext, ConstraintError> {
    let capabilities = context
        .capabilities
        .iter()
        .map(|capability| Capability {
            tool_pattern: capability.tool_pattern.clone(),
            path_allowlist: capability.path_allowlist.clone(),
            domain_allowlist: capability.domain_allowlist.clone(),
            command_allowlist: capability.command_allowlist.clone(),
            subcommand_allowlist: capability.subcommand_allowlist.clone(),
            arguments: capability.arguments.clone().map(Value::Object),
            max_response_size: capability.max_response_size.map(aegis_manifest::ByteSize::bytes),
            rate_limit: capability
                .rate_limit
                .map(|limit| RateLimit { calls: limit.calls, per_seconds: limit.per_seconds }),
            max_concurrent: capability.max_concurrent,
        })
        .collect();
    SecurityContext::new(context.name.clone(), capabilities, &context.deny_list)
}
