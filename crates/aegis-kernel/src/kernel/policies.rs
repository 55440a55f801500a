//! Asking what policy says, without doing it.

use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode, StreamId, ToolCall};
use aegis_manifest::agent::{Soul, SoulDocument};
use aegis_manifest::node::SecurityContext;
use aegis_security::policy::Explanation;
use serde_json::Value;

use super::served::resolved;
use super::{AgentSelector, Caller, Kernel, agents, unrecorded};
use crate::monitor::{Action, Authority, Circumstances, Member, Proof, Target};
use crate::policy::{NodePolicy, Rules};
use crate::tools::Home;

/// A call somebody wants to know about.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which agent would call.
    pub agent: AgentSelector,
    /// Which tool.
    pub tool: String,
    /// With what arguments; an object.
    pub arguments: Value,
    /// Labels on the execution.
    pub labels: Vec<String>,
    /// Risk, in thousandths.
    pub risk: i64,
}

/// Rules to ask instead of those that hold.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The security contexts that are asked.
    pub contexts: Option<Vec<SecurityContext>>,
    /// The soul of every agent that is asked about.
    pub soul: Option<Box<SoulDocument>>,
    /// The policies in Cedar that are asked.
    pub policies: Option<Arc<[NodePolicy]>>,
}

impl Kernel {
    /// What every layer says of a call an agent of the caller's tenant would make, and why. By the same path as the
    /// monitor; nothing is done, counted or recorded, so that rate limits are not among the reasons.
    ///
    /// # Errors
    /// If there is no such agent, or its rules cannot be compiled.
    pub async fn explain_policy(
        &self,
        caller: &Caller,
        asked: &Asked,
        overlay: Option<&Overlay>,
    ) -> Result<Explanation, Diagnosis> {
        let (agent, version) = self.select_agent(caller, &asked.agent).await?;
        let scribe = self.scribe();
        let document = scribe.text(StreamId::Agent(agent.id), &version.document).await.map_err(unrecorded)?;
        let mut manifest = agents::parse(&document).map_err(|refusal| {
            Diagnosis::internal(format!("the deployed manifest no longer parses: {refusal}"))
        })?;
        if let Some(soul) = overlay.and_then(|overlay| overlay.soul.clone()) {
            manifest.spec.soul = Some(Soul::Inline(soul));
        }
        let served = self.served_for(&caller.tenant, &manifest).await?;
        let found = self.found(served.as_ref());
        let manifest = resolved(manifest, &found);
        let member = Member {
            execution: "none".to_owned(),
            tenant: caller.tenant.clone(),
            manifest: Arc::new(manifest),
        };
        let home = found.find(&asked.tool);
        let wrong = |message: String| {
            Diagnosis::new(ErrorCode::InvalidInput, message)
                .hint("`aegis config validate` and `aegis policy check` show what is wrong")
        };
        let authority = match overlay {
            None => Authority::compile(vec![member], &self.rules, &[]),
            Some(overlay) => {
                let mut settings = self.settings();
                if let Some(contexts) = &overlay.contexts {
                    Arc::make_mut(&mut settings.config).spec.security_contexts.clone_from(contexts);
                }
                if let Some(policies) = &overlay.policies {
                    settings.policies = Arc::clone(policies);
                }
                Authority::compile(vec![member], &Rules::new(settings), &[])
            }
        };
        let authority = authority.map_err(wrong)?;
        let call =
            ToolCall { id: String::new(), name: asked.tool.clone(), arguments: asked.arguments.clone() };
        let facts = home.as_ref().map(Home::facts);
        let target = Target::Tool { turn: 0, index: 0, call: &call, facts, proof: Proof::Nobody };
        let circumstances = Circumstances {
            labels: asked.labels.clone(),
            risk: asked.risk,
            time: scribe.clock.now().micros() / 1_000_000,
        };
        let action = Action { target, generation: 0 };
        authority.explain(&action, &circumstances).map_err(|denial| wrong(denial.message))
    }
}
