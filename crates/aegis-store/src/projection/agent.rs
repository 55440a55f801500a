//! Agents and their versions.

use aegis_core::{AgentId, Body, Event};
use aegis_kernel::port::AgentState;

use super::{AgentRow, Projections, VersionRow};

pub(super) fn apply(projections: &mut Projections, id: AgentId, event: &Event) {
    let key = id.to_string();
    let state = match &event.body {
        Body::AgentDeployed { name, version, digest, document, .. } => {
            let version_row = VersionRow {
                agent: id,
                version: version.clone(),
                digest: *digest,
                document: *document,
                deployed_at: event.at,
                deployed_seq: event.seq,
            };
            projections.versions.put(format!("{id}/{version}"), version_row);
            if projections.agents.has(&key) {
                projections.agents.change(&key, |agent| {
                    // A pause outlives a new version; a removal does not.
                    if agent.state == AgentState::Removed {
                        agent.state = AgentState::Deployed;
                    }
                    agent.version.clone_from(version);
                    agent.digest = *digest;
                    agent.document = *document;
                    agent.updated_at = event.at;
                });
            } else {
                let row = AgentRow {
                    tenant: event.tenant.clone(),
                    name: name.clone(),
                    version: version.clone(),
                    state: AgentState::Deployed,
                    digest: *digest,
                    document: *document,
                    created_at: event.at,
                    updated_at: event.at,
                };
                projections.agents.put(key, row);
            }
            return;
        }
        Body::AgentPaused {} => AgentState::Paused,
        Body::AgentResumed {} => AgentState::Deployed,
        Body::AgentRemoved {} => AgentState::Removed,
        _ => return,
    };
    projections.agents.change(&key, |agent| {
        agent.state = state;
        agent.updated_at = event.at;
    });
}
