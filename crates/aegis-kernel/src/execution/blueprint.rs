//! What a manifest means for a run: the one place where document types become the driver's.

use std::fmt::Write as _;
use std::sync::Arc;

use aegis_core::execution::LoopPlan;
use aegis_core::{AgentId, ResponseFormat};
use aegis_manifest::AgentManifest;
use aegis_manifest::agent::{AccessMode, ContextItem, Target, Validator, Volume};
use aegis_manifest::template;

use crate::port::{Doors, PathRules, SandboxLimits, ServerTools, ToolFacts};
use crate::tools::{Found, Home};

/// Hours an ephemeral volume is kept after its execution unless the manifest says otherwise.
const TTL_HOURS_DEFAULT: u32 = 24;
const HOUR_MS: u64 = 3_600_000;

/// A volume to be made for the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumePlan {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    pub(crate) read_only: bool,
    pub(crate) size_limit: u64,
    pub(crate) ttl_ms: u64,
}

/// What the driver needs of a manifest.
pub(crate) struct Blueprint {
    pub(crate) agent: AgentId,
    pub(crate) model: String,
    pub(crate) temperature_milli: Option<u32>,
    pub(crate) model_timeout_ms: u64,
    pub(crate) instruction: String,
    pub(crate) template: String,
    pub(crate) context: String,
    pub(crate) tools: Vec<Arc<ToolFacts>>,
    pub(crate) validators: Vec<Validator>,
    pub(crate) response_format: Option<ResponseFormat>,
    pub(crate) rules: PathRules,
    pub(crate) limits: SandboxLimits,
    pub(crate) volumes: Vec<VolumePlan>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) interpreter: String,
    /// The security context's name, which is the scope of sessions.
    pub(crate) scope: String,
    /// Ways to the daemon for programs inside.
    pub(crate) doors: Doors,
    /// The tools of servers, as they stood when the run was prepared.
    pub(crate) served: Option<Arc<dyn ServerTools>>,
}

impl Blueprint {
    /// Reads a manifest that this node can enforce.
    pub(crate) fn of(agent: AgentId, manifest: &AgentManifest, found: &Found<'_>, interpreter: &str) -> Self {
        let spec = &manifest.spec;
        let tools: Vec<_> = spec
            .tools
            .iter()
            .filter_map(|tool| found.find(&tool.name))
            .map(|home| match home {
                Home::Sandbox(facts) | Home::Host(_, facts) => facts,
            })
            .collect();
        Self {
            agent,
            model: spec.runtime.model.clone(),
            temperature_milli: spec.runtime.temperature.map(thousandths),
            model_timeout_ms: u64::from(spec.execution.llm_timeout_seconds) * 1000,
            instruction: spec.task.instruction.clone(),
            template: spec.task.prompt_template.clone().unwrap_or_else(|| template::DEFAULT.to_owned()),
            context: attachments(&spec.context),
            response_format: response_format(&spec.execution.validation, tools.is_empty()),
            tools,
            validators: spec.execution.validation.clone(),
            rules: PathRules {
                read: spec.security.filesystem.read.clone(),
                write: if spec.security.filesystem.read_only {
                    Vec::new()
                } else {
                    spec.security.filesystem.write.clone()
                },
            },
            limits: limits(manifest),
            volumes: spec
                .volumes
                .iter()
                .map(|volume| volume_plan(volume, spec.security.filesystem.read_only))
                .collect(),
            env: spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            interpreter: interpreter.to_owned(),
            scope: spec
                .security_context
                .clone()
                .unwrap_or_else(|| aegis_manifest::node::SecurityContext::DEFAULT_NAME.to_owned()),
            doors: Doors { api: spec.runtime.inner_api, egress: !spec.security.network.is_none() },
            served: found.served.map(Arc::clone),
        }
    }
}

/// The loop's limits as the manifest states them.
pub(crate) fn loop_plan(manifest: &AgentManifest) -> LoopPlan {
    let execution = &manifest.spec.execution;
    LoopPlan {
        max_iterations: execution.iterations_max(),
        iteration_timeout_ms: execution.iteration_timeout.millis(),
        total_timeout_ms: manifest.spec.security.resources.total_timeout().millis(),
        validators: u32::try_from(execution.validation.len()).unwrap_or(u32::MAX),
    }
}

/// The limits of the sandbox.
pub(crate) fn limits(manifest: &AgentManifest) -> SandboxLimits {
    let resources = &manifest.spec.security.resources;
    SandboxLimits {
        cpu_millicores: resources.cpu_millicores(),
        memory_bytes: resources.memory_bytes(),
        disk_bytes: resources.disk_bytes(),
        pids: resources.pids_max(),
        explicit: resources.explicit(),
    }
}

fn volume_plan(volume: &Volume, all_read_only: bool) -> VolumePlan {
    VolumePlan {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        read_only: all_read_only || volume.access_mode == AccessMode::ReadOnly,
        size_limit: volume.size_limit_bytes(),
        ttl_ms: u64::from(volume.ttl_hours.unwrap_or(TTL_HOURS_DEFAULT)) * HOUR_MS,
    }
}

/// An agent without tools whose answer has to satisfy a schema tells the model so: a provider that can enforce the
/// form then does. With tools offered the form would forbid calling them.
fn response_format(validators: &[Validator], no_tools: bool) -> Option<ResponseFormat> {
    if !no_tools {
        return None;
    }
    validators.iter().find_map(|validator| match validator {
        Validator::JsonSchema(validator) if validator.target == Target::Answer => {
            Some(ResponseFormat::JsonSchema {
                name: "answer".to_owned(),
                schema: serde_json::Value::Object(validator.schema.clone()),
            })
        }
        _ => None,
    })
}

/// What `{{context}}` stands for: each attachment under its name.
fn attachments(items: &[ContextItem]) -> String {
    let mut text = String::new();
    let mut attach = |name: &str, content: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "--- {name} ---\n{content}");
    };
    for item in items {
        match item {
            ContextItem::Text { content, description } => {
                attach(description.as_deref().unwrap_or("context"), content)
            }
            ContextItem::File { path, content, .. } => attach(path, content.as_deref().unwrap_or_default()),
            ContextItem::Directory { files, .. } => {
                for file in files.iter().flatten() {
                    attach(&file.path, &file.content);
                }
            }
            ContextItem::Url { .. } => {}
        }
    }
    text
}

fn thousandths(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the manifest permits 0 to 2"
    )]
    let thousandths = (value.clamp(0.0, 2.0) * 1000.0).round() as u32;
    thousandths
}

#[cfg(test)]
mod tests;
