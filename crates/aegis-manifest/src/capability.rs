//! What a manifest asks for and this node cannot do: a warning at deploy, a refusal at execute.

use aegis_core::Diagnosis;

use crate::AgentManifest;
use crate::agent::{
    Advanced, ContextItem, ImagePullPolicy, Isolation, Language, NetworkMode, ScheduleType, Soul,
    StorageClass, Validator, VolumeType,
};

/// What the adapters of a node say of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// What `isolation: inherit` means here.
    pub default_isolation: Isolation,
    /// Why nothing can be isolated here, and what to do; `None` if it can.
    pub isolation_missing: Option<String>,
    /// Why limits of a whole process tree cannot be set, and what to do.
    pub limits_missing: Option<String>,
    /// Why programs inside cannot be given connections, and what to do.
    pub network_missing: Option<String>,
    /// Why volumes cannot be mounted, and what to do.
    pub mount_missing: Option<String>,
    /// Interpreters: language as manifests write it, and version.
    pub interpreters: Vec<(String, String)>,
}

/// A known field that this node cannot enforce.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unenforced {
    /// The field: `spec.runtime.isolation`.
    pub path: String,
    /// What is missing.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Unenforced {
    /// The refusal at execute.
    pub fn diagnosis(&self) -> Diagnosis {
        Diagnosis::capability_missing(format!("`{}`: {}", self.path, self.what), self.remedy.clone())
    }
}

struct List(Vec<Unenforced>);

impl List {
    fn add(&mut self, path: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Unenforced { path: path.into(), what: what.into(), remedy: remedy.into() });
    }
}

impl AgentManifest {
    /// The fields that this node cannot enforce, in the order of the document.
    pub fn unenforced(&self, facts: &NodeFacts) -> Vec<Unenforced> {
        let mut list = List(Vec::new());
        runtime(self, facts, &mut list);
        task(self, &mut list);
        execution(self, &mut list);
        security(self, facts, &mut list);
        volumes(self, facts, &mut list);
        others(self, &mut list);
        list.0
    }
}

fn runtime(manifest: &AgentManifest, facts: &NodeFacts, list: &mut List) {
    let runtime = &manifest.spec.runtime;
    let isolation = match runtime.isolation {
        Isolation::Inherit => facts.default_isolation,
        stated => stated,
    };
    match isolation {
        Isolation::Inherit | Isolation::Process => {
            if let Some(missing) = &facts.isolation_missing {
                list.add("spec.runtime.isolation", "this machine cannot isolate a process", missing);
            }
        }
        other => list.add(
            "spec.runtime.isolation",
            format!("isolation `{}` is not in this build", other.name()),
            "write `isolation: process`",
        ),
    }
    if runtime.image.is_some() {
        list.add(
            "spec.runtime.image",
            "container images are not in this build",
            "write `language: python` instead of an image",
        );
    }
    if runtime.image_pull_policy != ImagePullPolicy::default() {
        list.add("spec.runtime.image_pull_policy", "no image is pulled in this build", "remove it");
    }
    match runtime.language {
        Some(Language::Python) => match &runtime.version {
            Some(wanted) => python(wanted, facts, list),
            None if facts.interpreters.iter().any(|(language, _)| language == "python") => {}
            None => list.add(
                "spec.runtime.language",
                "there is no python3 in /usr/bin here",
                "install it: `apt install python3`",
            ),
        },
        Some(other) => list.add(
            "spec.runtime.language",
            format!("the language `{}` is not in this build", other.name()),
            "write `language: python`",
        ),
        None => {}
    }
}

/// `wanted` is a minimum within its major, met by what is there.
fn python(wanted: &str, facts: &NodeFacts, list: &mut List) {
    let parts =
        |version: &str| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    let found: Vec<&str> = facts
        .interpreters
        .iter()
        .filter(|(language, _)| language == Language::Python.name())
        .map(|(_, version)| version.as_str())
        .collect();
    let meets = |version: &&&str| {
        let (is, least) = (parts(version), parts(wanted));
        is.first() == least.first() && is >= least
    };
    if found.iter().find(meets).is_none() {
        let here = if found.is_empty() { "none is".to_owned() } else { format!("{} is", found.join(", ")) };
        list.add(
            "spec.runtime.version",
            format!("python {wanted} or newer is wanted, and {here} in /usr/bin"),
            "install it from the distribution's packages, or ask for an older version",
        );
    }
}

fn task(manifest: &AgentManifest, list: &mut List) {
    let later = "it comes with a later version; give it by `--input` or the instruction";
    if !manifest.spec.task.input_data.is_empty() {
        list.add("spec.task.input_data", "standing input is not in this build", later);
    }
    if !manifest.spec.task.agentskills.is_empty() {
        list.add("spec.task.agentskills", "skills are not in this build", later);
    }
    for (index, item) in manifest.spec.context.iter().enumerate() {
        let path = format!("spec.context[{index}]");
        match item {
            ContextItem::Url { .. } => {
                list.add(path, "fetching context is not in this build", "attach the page as a file");
            }
            ContextItem::File { content: None, .. } | ContextItem::Directory { files: None, .. } => {
                let remedy = "deploy with `aegis agent deploy`, which uploads it, or send its content with the manifest";
                list.add(
                    path,
                    "the file was not uploaded, and the server reads no paths of manifests",
                    remedy,
                );
            }
            ContextItem::Text { .. } | ContextItem::File { .. } | ContextItem::Directory { .. } => {}
        }
    }
}

fn execution(manifest: &AgentManifest, list: &mut List) {
    let execution = &manifest.spec.execution;
    if execution.memory {
        list.add(
            "spec.execution.memory",
            "memory of earlier executions is not in this build",
            "write `memory: false`",
        );
    }
    let judge = "write `model:` with an alias instead of `judge_agent:`";
    for (index, validator) in execution.validation.iter().enumerate() {
        let path = format!("spec.execution.validation[{index}]");
        match validator {
            Validator::Semantic(validator) if validator.judge_agent.is_some() => {
                list.add(format!("{path}.judge_agent"), "judge agents are not in this build", judge);
            }
            Validator::MultiJudge(validator) => {
                for (place, _) in validator.judges.iter().enumerate().filter(|(_, j)| j.judge_agent.is_some())
                {
                    let path = format!("{path}.judges[{place}].judge_agent");
                    list.add(path, "judge agents are not in this build", judge);
                }
            }
            _ => {}
        }
    }
    if !execution.tool_validation.is_empty() {
        list.add(
            "spec.execution.tool_validation",
            "judges before tool calls are not in this build",
            "remove it",
        );
    }
}

fn security(manifest: &AgentManifest, facts: &NodeFacts, list: &mut List) {
    let security = &manifest.spec.security;
    if !security.network.is_none()
        && let Some(missing) = &facts.network_missing
    {
        let mode = if security.network.mode == NetworkMode::Deny { "deny" } else { "allow" };
        list.add(
            "spec.security.network",
            format!("network access (`mode: {mode}`) cannot be given here: {missing}"),
            "run the daemon as root, or write `mode: none`",
        );
    }
    if security.resources.explicit()
        && let Some(missing) = &facts.limits_missing
    {
        list.add("spec.security.resources", "stated limits cannot be enforced exactly here", missing);
    }
}

fn volumes(manifest: &AgentManifest, facts: &NodeFacts, list: &mut List) {
    for (index, volume) in manifest.spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if volume.storage_class == StorageClass::Persistent {
            let what = "persistent volumes are not in this build";
            list.add(format!("{path}.storage_class"), what, "write `storage_class: ephemeral`");
        }
        if volume.kind != VolumeType::Local {
            let what = format!("volumes of type `{}` are not in this build", volume.kind.name());
            list.add(format!("{path}.type"), what, "write `type: local`");
        }
        for (field, given) in [("provider", volume.provider.is_some()), ("config", volume.config.is_some())] {
            if given {
                list.add(format!("{path}.{field}"), "local volumes have no such setting", "remove it");
            }
        }
        if let Some(missing) = &facts.mount_missing {
            list.add(&path, "a volume cannot be mounted here", missing);
        }
    }
}

/// Of a soul the lists of tools of its authority are enforced; nothing else is. No risk is weighed: none is above
/// another.
fn souls(manifest: &AgentManifest, list: &mut List) {
    let soul = match &manifest.spec.soul {
        None => return,
        Some(Soul::Named(name)) => {
            let what =
                format!("souls are no documents of their own in this build, so there is no soul `{name}`");
            return list.add("spec.soul", what, "write the soul into the manifest");
        }
        Some(Soul::Inline(soul)) => soul,
    };
    let gates = &soul.gates;
    for (field, given) in [
        ("owner", soul.owner.is_some()),
        ("inputs", soul.inputs.is_some()),
        ("authority.role", soul.authority.role.is_some()),
        ("authority.max_risk", soul.authority.max_risk.is_some()),
        ("authority.approvers", !soul.authority.approvers.is_empty()),
        ("failure_modes", !soul.failure_modes.is_empty()),
        ("acceptance", !soul.acceptance.is_empty()),
        ("gates", !(gates.before.is_empty() && gates.during.is_empty() && gates.after.is_empty())),
        ("safe_mode", soul.safe_mode.is_some()),
    ] {
        if given {
            let what = format!(
                "`{field}` of a soul is not in this build; the lists of tools of its `authority` are"
            );
            list.add(format!("spec.soul.{field}"), what, "remove it");
        }
    }
}

fn others(manifest: &AgentManifest, list: &mut List) {
    let spec = &manifest.spec;
    souls(manifest, list);
    for (index, _) in spec.tools.iter().enumerate().filter(|(_, tool)| tool.config.is_some()) {
        let what = "tools take no settings of an agent";
        list.add(format!("spec.tools[{index}].config"), what, "remove it");
    }
    if spec
        .schedule
        .as_ref()
        .is_some_and(|schedule| schedule.enabled && schedule.kind != ScheduleType::Manual)
    {
        list.add(
            "spec.schedule",
            "schedules are not in this build",
            "write `type: manual`, and start it by `aegis task execute`",
        );
    }
    for (there, path) in
        [(spec.delivery.is_some(), "spec.delivery"), (spec.output_handler.is_some(), "spec.output_handler")]
    {
        if there {
            list.add(
                path,
                "delivery of results is not in this build",
                "remove it, and fetch the result by `aegis task status`",
            );
        }
    }
    if spec.advanced != Advanced::default() {
        list.add("spec.advanced", "these settings are not in this build", "remove `advanced`");
    }
}
