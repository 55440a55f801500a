//! Deploying agents and changing their state.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aegis_core::{Actor, AgentId, Body, Diagnosis, Durability, ErrorCode, Name, StreamId, Tenant};
use aegis_manifest::node::SecurityContext;
use aegis_manifest::{AgentManifest, NodeFacts, Unenforced};
use aegis_security::commitment;

use super::{AgentSelector, Caller, DeployOptions, Deployed, Kernel, Refusal, refuse_platform, unrecorded};
use crate::monitor::{Authority, Member};
use crate::port::{AgentRecord, AgentState, AgentVersion, Append, ServerTools};

/// Platform agents looked at in one read.
const PLATFORM_PAGE: usize = 100;

/// Who deploys platform agents: the node itself.
fn platform() -> Caller {
    Caller { tenant: Tenant::platform(), actor: Actor::daemon() }
}

impl Kernel {
    /// Accepts a manifest. The identical document again changes nothing.
    ///
    /// # Errors
    /// All problems of the document at once, or a conflict with what is deployed.
    pub async fn deploy(
        &self,
        caller: &Caller,
        document: &str,
        options: DeployOptions,
    ) -> Result<Deployed, Refusal> {
        refuse_platform(caller)?;
        self.accept(caller, document, options).await
    }

    /// Accepts a manifest of the node's configuration for the tenant `platform`, whose agents every tenant may use. It
    /// replaces other content under the same version.
    ///
    /// # Errors
    /// All problems of the document at once.
    pub async fn deploy_platform(&self, document: &str) -> Result<Deployed, Refusal> {
        self.accept(&platform(), document, DeployOptions { force: true, validate_only: false }).await
    }

    /// Removes the platform agents that are not among `kept`: the configuration does not name them any more.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub async fn keep_platform(&self, kept: &[AgentId]) -> Result<(), Diagnosis> {
        let caller = platform();
        let mut cursor: Option<String> = None;
        loop {
            let journal = &self.services.ports.journal;
            let page =
                journal.agents(&caller.tenant, cursor.as_deref(), PLATFORM_PAGE).await.map_err(unrecorded)?;
            for agent in page.items {
                if agent.state != AgentState::Removed && !kept.contains(&agent.id) {
                    self.record_change(&caller, &agent, Body::AgentRemoved {}).await?;
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn accept(
        &self,
        caller: &Caller,
        document: &str,
        options: DeployOptions,
    ) -> Result<Deployed, Refusal> {
        let manifest = parse(document)?;
        self.check_references(caller, &manifest)?;
        let served = self.served_for(&caller.tenant, &manifest).await?;
        let mut warnings: Vec<String> =
            self.unenforced(&manifest, served.as_ref()).iter().map(describe).collect();
        warnings.extend(self.unknown_model(&manifest));
        let name = manifest.metadata.name.clone();
        let id = AgentId::of(&caller.tenant, &name);
        let deployed = |status, changed| Deployed {
            id,
            name: name.to_string(),
            version: manifest.metadata.version.clone(),
            status,
            warnings: warnings.clone(),
            changed,
        };
        if options.validate_only {
            return Ok(deployed("valid", false));
        }
        let journal = &self.services.ports.journal;
        let digest = commitment::sha256(document.as_bytes());
        let current = journal.agent(id).await.map_err(unrecorded)?;
        let versions = journal.agent_versions(id).await.map_err(unrecorded)?;
        let same_version = versions.iter().find(|version| version.version == manifest.metadata.version);
        let live = current.as_ref().is_some_and(|agent| agent.state != AgentState::Removed);
        if let (Some(version), true) = (same_version, live) {
            let is_current = current.as_ref().is_some_and(|agent| agent.version == version.version);
            if version.digest == digest && is_current {
                return Ok(deployed("deployed", false));
            }
            if version.digest != digest && !options.force {
                return Err(already_deployed(&name, version).into());
            }
        }
        self.refuse_secrets(caller, document).await?;
        self.record_deployed(
            caller,
            id,
            &manifest,
            document,
            (same_version.is_some_and(|version| version.digest != digest), warnings.len()),
            current,
        )
        .await?;
        Ok(deployed("deployed", true))
    }

    /// A document is kept as it is, under its digest: one that holds a secret is not taken.
    async fn refuse_secrets(&self, caller: &Caller, document: &str) -> Result<(), Diagnosis> {
        let redactor = self.scribe_for(&caller.tenant).await?.redaction.redactor();
        if matches!(redactor.redact(document), Cow::Borrowed(_)) {
            return Ok(());
        }
        let what = "the document holds the value of a secret of this tenant";
        Err(Diagnosis::new(ErrorCode::InvalidInput, what)
            .hint("take it out: tools and providers are given credentials by the node's configuration"))
    }

    async fn record_deployed(
        &self,
        caller: &Caller,
        id: AgentId,
        manifest: &AgentManifest,
        document: &str,
        (forced, warnings): (bool, usize),
        current: Option<AgentRecord>,
    ) -> Result<(), Diagnosis> {
        let scribe = self.scribe();
        let mut blobs = Vec::new();
        let body = Body::AgentDeployed {
            name: manifest.metadata.name.clone(),
            version: manifest.metadata.version.clone(),
            digest: commitment::sha256(document.as_bytes()),
            document: scribe.blob(document.to_owned(), &mut blobs),
            forced,
            warnings: u32::try_from(warnings).unwrap_or(u32::MAX),
        };
        let append = Append {
            tenant: caller.tenant.clone(),
            stream: StreamId::Agent(id),
            expected: Some(current.map_or(0, |agent| agent.stream_seq)),
            events: vec![scribe.event(scribe.root_span(), &caller.actor, body)],
            blobs,
            durability: Durability::Power,
        };
        self.append_change(append).await
    }

    /// Refuses new executions of the agent until it is resumed. Pausing a paused agent changes nothing.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn pause_agent(&self, caller: &Caller, id: AgentId) -> Result<(), Diagnosis> {
        self.change_agent(caller, id, AgentState::Paused, Body::AgentPaused {}).await
    }

    /// Takes executions of the agent again. Resuming an agent that is not paused changes nothing.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn resume_agent(&self, caller: &Caller, id: AgentId) -> Result<(), Diagnosis> {
        self.change_agent(caller, id, AgentState::Deployed, Body::AgentResumed {}).await
    }

    /// Removes the registration; executions and their evidence stay.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn remove_agent(&self, caller: &Caller, id: AgentId) -> Result<(), Diagnosis> {
        self.change_agent(caller, id, AgentState::Removed, Body::AgentRemoved {}).await
    }

    async fn change_agent(
        &self,
        caller: &Caller,
        id: AgentId,
        to: AgentState,
        body: Body,
    ) -> Result<(), Diagnosis> {
        refuse_platform(caller)?;
        let agent = self.services.ports.journal.agent(id).await.map_err(unrecorded)?;
        let agent = agent.filter(|agent| agent.state != AgentState::Removed);
        let agent = match agent {
            Some(agent) if agent.tenant == caller.tenant => agent,
            Some(agent) if agent.tenant == Tenant::platform() => {
                return Err(Diagnosis::new(
                    ErrorCode::PermissionDenied,
                    format!("agent `{}` is a platform agent, which no tenant changes", agent.name),
                ));
            }
            _ => return Err(Diagnosis::not_found("agent", id)),
        };
        if agent.state == to {
            return Ok(());
        }
        self.record_change(caller, &agent, body).await
    }

    async fn record_change(&self, caller: &Caller, agent: &AgentRecord, body: Body) -> Result<(), Diagnosis> {
        let scribe = self.scribe();
        let append = Append {
            tenant: caller.tenant.clone(),
            stream: StreamId::Agent(agent.id),
            expected: Some(agent.stream_seq),
            events: vec![scribe.event(scribe.root_span(), &caller.actor, body)],
            blobs: Vec::new(),
            durability: Durability::Power,
        };
        self.append_change(append).await
    }

    /// Appends and counts it, on a task of its own: a client that goes away must not leave a change that nobody counted.
    async fn append_change(&self, append: Append) -> Result<(), Diagnosis> {
        let (journal, revision) = (Arc::clone(self.journal()), Arc::clone(&self.agents_revision));
        let appended = tokio::spawn(async move {
            let appended = journal.append(append).await;
            // Whether or not it was taken: one look too many does no harm.
            revision.fetch_add(1, Ordering::AcqRel);
            appended
        });
        let appended = appended.await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        appended.map(drop).map_err(unrecorded)
    }

    /// The agent and version a selector means: the caller's tenant first, then `platform`.
    ///
    /// # Errors
    /// If there is none that the caller may see.
    pub async fn select_agent(
        &self,
        caller: &Caller,
        selector: &AgentSelector,
    ) -> Result<(AgentRecord, AgentVersion), Diagnosis> {
        let journal = &self.services.ports.journal;
        let seen = |agent: &AgentRecord| {
            agent.state != AgentState::Removed
                && (agent.tenant == caller.tenant || agent.tenant == Tenant::platform())
        };
        let (agent, wanted) = match selector {
            AgentSelector::Id(id) => (journal.agent(*id).await.map_err(unrecorded)?.filter(seen), None),
            AgentSelector::Name { name, version } => {
                let parsed: Name = name.parse().map_err(|error: aegis_core::IdError| {
                    Diagnosis::new(ErrorCode::InvalidInput, error.to_string())
                })?;
                let mut found = None;
                for tenant in [caller.tenant.clone(), Tenant::platform()] {
                    found =
                        journal.agent(AgentId::of(&tenant, &parsed)).await.map_err(unrecorded)?.filter(seen);
                    if found.is_some() {
                        break;
                    }
                }
                (found, version.clone())
            }
        };
        let shown = match selector {
            AgentSelector::Id(id) => id.to_string(),
            AgentSelector::Name { name, .. } => name.clone(),
        };
        let agent = agent.ok_or_else(|| {
            Diagnosis::not_found("agent", shown).hint("`aegis agent list` shows the agents of your tenant")
        })?;
        let wanted = wanted.unwrap_or_else(|| agent.version.clone());
        let versions = journal.agent_versions(agent.id).await.map_err(unrecorded)?;
        match versions.into_iter().find(|version| version.version == wanted) {
            Some(version) => Ok((agent, version)),
            None => Err(Diagnosis::not_found("version", format!("{}@{wanted}", agent.name))
                .hint(format!("`aegis agent versions {}` shows them", agent.name))),
        }
    }

    /// What a manifest names must be there: its security context. And its rules must be such as can be asked.
    fn check_references(&self, caller: &Caller, manifest: &AgentManifest) -> Result<(), Diagnosis> {
        let settings = self.settings();
        if let Some(name) = &manifest.spec.security_context
            && settings.config.spec.security_context(name).is_none()
        {
            let message = format!("spec.security_context: this node has no security context `{name}`");
            let contexts = &settings.config.spec.security_contexts;
            let known =
                contexts.iter().map(|context| context.name.as_str()).chain([SecurityContext::DEFAULT_NAME]);
            let hint = "add it to security_contexts of the node's configuration, or leave the field out";
            return Err(Diagnosis::new(ErrorCode::InvalidInput, message).hint(meant(name, known, hint)));
        }
        let manifest = Arc::new(manifest.clone());
        let member = Member { execution: "none".to_owned(), tenant: caller.tenant.clone(), manifest };
        match Authority::compile(vec![member], &self.rules, &[]) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Diagnosis::new(ErrorCode::InvalidInput, problem)
                .hint("`aegis policy check FILE` tells everything wrong with its rules")),
        }
    }

    /// A model alias that is not configured, which may come later: a warning.
    fn unknown_model(&self, manifest: &AgentManifest) -> Option<String> {
        let (model, alias) = (&self.services.ports.model, &manifest.spec.runtime.model);
        if model.facts(alias).is_some() {
            return None;
        }
        let known = model.aliases();
        let hint = "add it to the node's configuration before the agent runs";
        let hint = meant(alias, known.iter().map(String::as_str), hint);
        Some(format!("spec.runtime.model: no model has the alias `{alias}`; {hint}"))
    }

    /// What this node cannot enforce of a manifest: warnings at deploy, refusals at execute.
    pub(crate) fn unenforced(
        &self,
        manifest: &AgentManifest,
        served: Option<&Arc<dyn ServerTools>>,
    ) -> Vec<Unenforced> {
        let ports = &self.services.ports;
        let capabilities = ports.sandbox.capabilities();
        let facts = NodeFacts {
            default_isolation: self.settings().config.spec.runtime.default_isolation,
            isolation_missing: capabilities.isolation_missing.clone(),
            limits_missing: capabilities.limits_missing.clone(),
            network_missing: capabilities.network_missing.clone(),
            mount_missing: ports.volume.mount_missing(),
            interpreters: capabilities
                .interpreters
                .iter()
                .map(|(language, version, _)| (language.clone(), version.clone()))
                .collect(),
        };
        let mut gaps = manifest.unenforced(&facts);
        let found = self.found(served);
        for (index, tool) in manifest.spec.tools.iter().enumerate() {
            if found.name_of(tool).is_some_and(|name| found.find(name).is_some()) {
                continue;
            }
            let (what, remedy) = match &tool.server {
                Some(server) => (
                    format!("no tool `{}` of a tool server `{server}` is known on this node", tool.name),
                    "see `aegis server list` and `aegis tool list`".to_owned(),
                ),
                None => {
                    let hint = "name one that `aegis tool list` shows, or remove the entry";
                    let what = format!("no tool `{}` exists on this node", tool.name);
                    (what, meant(&tool.name, found.names(), hint))
                }
            };
            gaps.push(Unenforced { path: format!("spec.tools[{index}]"), what, remedy });
        }
        gaps
    }
}

/// A gap in one sentence with its remedy.
fn describe(gap: &Unenforced) -> String {
    format!("{}: {}; {}", gap.path, gap.what, gap.remedy)
}

/// A hint that names what was probably meant.
fn meant<'a>(written: &str, known: impl IntoIterator<Item = &'a str>, hint: &str) -> String {
    match aegis_manifest::nearest(written, known) {
        Some(name) => format!("did you mean `{name}`? Else {hint}"),
        None => hint.to_owned(),
    }
}

/// Parses a manifest; all problems at once.
pub(crate) fn parse(document: &str) -> Result<AgentManifest, Refusal> {
    aegis_manifest::parse_agent(document, "manifest")
        .map(|parsed| parsed.document)
        .map_err(|problems| Refusal { rendered: Some(problems.render()), problems: problems.to_diagnoses() })
}

fn already_deployed(name: &Name, version: &AgentVersion) -> Diagnosis {
    let message = format!("agent `{name}` version `{}` is deployed with other content", version.version);
    Diagnosis::new(ErrorCode::Conflict, message)
        .hint("raise metadata.version, or deploy with --force to replace that definition")
}
