//! Tools of tool servers: which a manifest means, and what stands here.

use std::sync::Arc;

use aegis_core::{Diagnosis, Tenant};
use aegis_manifest::AgentManifest;

use super::Kernel;
use crate::port::{ServerTools, ToolFacts, ToolServers};
use crate::tools::Found;

impl Kernel {
    /// Says where tools of servers come from. Once; before [`Kernel::start`].
    pub fn use_servers(&self, servers: Arc<dyn ToolServers>) {
        let _ = self.services.servers.set(servers);
    }

    /// The names of the node's own tools, which no server's tool may take.
    pub fn tool_names(&self) -> Vec<String> {
        self.services.router.names().map(str::to_owned).collect()
    }

    /// The tools that agents of a tenant may name, each with the server it comes from.
    ///
    /// # Errors
    /// If what was accepted of servers cannot be read.
    pub async fn tools(&self, tenant: &Tenant) -> Result<Vec<(ToolFacts, Option<String>)>, Diagnosis> {
        let router = &self.services.router;
        let mut tools: Vec<_> = router
            .names()
            .filter_map(|name| router.find(name))
            .map(|home| (home.facts().clone(), None))
            .collect();
        if let Some(servers) = self.services.servers.get() {
            let served = servers.tools(tenant).await.map_err(Diagnosis::internal)?;
            tools.extend(served.tools().iter().map(|facts| {
                let place = served.place(&facts.schema.name).map(|(server, _)| server.to_owned());
                (facts.clone(), place)
            }));
        }
        Ok(tools)
    }

    /// The tools of the tenant's servers, if the manifest names a tool the node itself does not have: no server is
    /// started for an agent that needs none.
    pub(super) async fn served_for(
        &self,
        tenant: &Tenant,
        manifest: &AgentManifest,
    ) -> Result<Option<Arc<dyn ServerTools>>, Diagnosis> {
        let router = &self.services.router;
        let own =
            manifest.spec.tools.iter().all(|tool| tool.server.is_none() && router.find(&tool.name).is_some());
        match self.services.servers.get() {
            Some(servers) if !own => servers.tools(tenant).await.map(Some).map_err(Diagnosis::internal),
            _ => Ok(None),
        }
    }

    pub(super) fn found<'a>(&'a self, served: Option<&'a Arc<dyn ServerTools>>) -> Found<'a> {
        Found { router: &self.services.router, served }
    }
}

/// The manifest with each tool of a server under the name it has here, so that every layer speaks of one name.
pub(super) fn resolved(mut manifest: AgentManifest, found: &Found<'_>) -> AgentManifest {
    for tool in &mut manifest.spec.tools {
        if let Some(name) = found.name_of(tool).map(str::to_owned) {
            tool.name = name;
        }
    }
    manifest
}
