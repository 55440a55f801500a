//! What one agent of a chain may do under the rules that hold: its layers and the constraints they rely on.

use std::time::Duration;

use aegis_core::{Denial, DenialCode};
use aegis_manifest::node::SecurityContext as Named;
use aegis_security::constraint::{self, ConstraintError, PathPattern, RateLimit, Request, SecurityContext};
use aegis_security::egress::EgressRules;
use aegis_security::policy::Layer;
use serde_json::Value;

use super::governed::GovernedValues;
use super::{Member, Survey};
use crate::kernel::KernelSettings;
use crate::monitor::limiter::Limits;
use crate::policy::{compile_soul, egress_rules, manifest_rules, security_context};
use crate::port::Access;
use crate::validation::Schema;

/// The rule of the manifest's file rules.
const FILES_RULE: &str = "manifest:security.filesystem";

/// One agent of the chain, compiled.
pub(super) struct Standing {
    /// What stands before its rules: nothing, or `ancestor:N/`.
    prefix: String,
    read: Vec<PathPattern>,
    write: Vec<PathPattern>,
    context: SecurityContext,
    /// Where its manifest lets programs connect to.
    pub(super) egress: EgressRules,
    /// What capabilities demand of arguments, beside the schema as the context states it.
    argument_schemas: Vec<(Value, Schema)>,
}

impl Standing {
    /// Compiles what one agent may do, and adds its layers: node, tenant, context, soul, manifest.
    pub(super) fn compile(
        member: &Member,
        ancestor: u32,
        settings: &KernelSettings,
        layers: &mut Vec<Layer>,
    ) -> Result<Self, String> {
        let spec = &member.manifest.spec;
        let name = spec.security_context.as_deref().unwrap_or(Named::DEFAULT_NAME);
        let context = settings
            .config
            .spec
            .security_context(name)
            .ok_or_else(|| format!("this node has no security context `{name}`"))?;
        let argument_schemas = context
            .capabilities
            .iter()
            .filter_map(|capability| capability.arguments.clone())
            .map(|schema| {
                let schema = Value::Object(schema);
                let compiled = Schema::compile(&schema)?;
                Ok((schema, compiled))
            })
            .collect::<Result<_, String>>()?;
        let context = security_context(&context).map_err(|error| error.to_string())?;
        let mut own: Vec<Layer> = Vec::new();
        for tenants in [false, true] {
            let policies = settings.policies.iter().filter(|policy| policy.is_tenants() == tenants);
            own.extend(policies.filter_map(|policy| policy.layer_for(&member.tenant)).cloned());
        }
        let metadata = &member.manifest.metadata;
        let rules = manifest_rules(&member.manifest);
        let wrong = |error: aegis_security::policy::PolicyError| error.to_string();
        own.push(Layer::from_context(&context).map_err(wrong)?);
        own.extend(compile_soul(&member.manifest).map_err(wrong)?);
        own.push(Layer::from_manifest(metadata.name.as_str(), &metadata.version, &rules).map_err(wrong)?);
        let prefix = match ancestor {
            0 => String::new(),
            _ => format!("ancestor:{ancestor}/"),
        };
        layers.extend(own.iter().map(|layer| layer.of_ancestor(ancestor)));
        let files = &spec.security.filesystem;
        let write = if files.read_only { Ok(Vec::new()) } else { patterns(&files.write) };
        let egress = egress_rules(&member.manifest, &prefix);
        Ok(Self {
            egress: egress.map_err(|error| format!("spec.security.network: {error}"))?,
            prefix,
            read: patterns(&files.read).map_err(|error| error.to_string())?,
            write: write.map_err(|error| error.to_string())?,
            context,
            argument_schemas,
        })
    }

    /// What its constraints say of a tool call.
    pub(super) fn survey(
        &self,
        (tool, arguments): (&str, &Value),
        governed: &GovernedValues,
        survey: &mut Survey<'_>,
    ) {
        if let Err(denial) = self.files(governed) {
            survey.refused.push(denial);
        }
        let request = Request { tool, governed: &governed.values, arguments };
        let check = |schema: &Value, arguments: &Value| self.check_arguments(schema, arguments);
        let matching = match constraint::matching(&self.context, request, &check) {
            Ok(matching) => matching,
            Err(denial) => return survey.refused.push(self.of_ancestor(denial)),
        };
        let rule = |index: usize| format!("context:{}/capability:{index}", self.context.name());
        if let Some(selected) = matching.capabilities.first().copied() {
            self.limits(selected, rule(selected), survey);
        }
        let matched =
            matching.capabilities.into_iter().map(|index| format!("{}{}", self.prefix, rule(index)));
        survey.matched.extend(matched);
        survey.notes.extend(matching.failed.into_iter().map(|denial| self.of_ancestor(denial)));
    }

    /// The limits of the capability that permits. They are the capability's own, whoever of the chain it permits.
    fn limits(&self, selected: usize, rule: String, survey: &mut Survey<'_>) {
        let Some(capability) = self.context.capability(selected) else { return };
        let window = |RateLimit { calls, per_seconds }| (calls, Duration::from_secs(u64::from(per_seconds)));
        let limits =
            Limits { rate: capability.rate_limit.map(window), concurrent: capability.max_concurrent };
        let sizes = [survey.max_response_bytes, capability.max_response_size];
        survey.max_response_bytes = sizes.into_iter().flatten().min();
        let limits = (rule, limits);
        if !survey.limits.contains(&limits) {
            survey.limits.push(limits);
        }
    }

    fn of_ancestor(&self, denial: Denial) -> Denial {
        Denial { rule: format!("{}{}", self.prefix, denial.rule), ..denial }
    }

    /// The manifest's file rules, on every path the tool declares.
    fn files(&self, governed: &GovernedValues) -> Result<(), Denial> {
        for (given, access) in &governed.paths {
            let refuse = |message: String| Denial {
                code: DenialCode::PathNotAllowed,
                rule: format!("{}{FILES_RULE}", self.prefix),
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
                let verb = if *access == Access::Write { "writing" } else { "reading" };
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
}

fn patterns(texts: &[String]) -> Result<Vec<PathPattern>, ConstraintError> {
    texts.iter().map(|text| PathPattern::new(text)).collect()
}
