//! The tool router: which host a name belongs to, and `cmd.run`, which runs in the execution's own sandbox.

mod command;

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_core::ToolResult;
use aegis_manifest::agent::ToolRef;

use crate::monitor::Performed;
use crate::port::{ServerTools, ToolError, ToolFacts, ToolHost};

pub(crate) use command::{COMMAND_RUN, Command, command_result, command_run_facts};

/// Where a tool lives.
pub(crate) enum Home {
    /// In the sandbox, through the dispatch protocol.
    Sandbox(Arc<ToolFacts>),
    /// In a tool host.
    Host(Arc<dyn ToolHost>, Arc<ToolFacts>),
}

impl Home {
    pub(crate) fn facts(&self) -> &ToolFacts {
        match self {
            Self::Sandbox(facts) | Self::Host(_, facts) => facts,
        }
    }
}

/// What came of a host's call. What was asked and not answered may have had its effect: it is not completed.
pub(crate) fn performed(result: Result<ToolResult, ToolError>) -> Performed {
    match result {
        Err(ToolError::Unanswered(why)) => {
            tracing::warn!(%why, "it is not known whether a call took effect");
            Performed::Interrupted
        }
        answered => Performed::Tool(answered),
    }
}

/// All tools of the node.
pub(crate) struct Router {
    sandbox: Arc<ToolFacts>,
    hosted: BTreeMap<String, (Arc<dyn ToolHost>, Arc<ToolFacts>)>,
}

impl Router {
    /// The first host that offers a name has it.
    pub(crate) fn new(hosts: &[Arc<dyn ToolHost>]) -> Self {
        let mut hosted = BTreeMap::new();
        for host in hosts {
            for facts in host.tools() {
                hosted
                    .entry(facts.schema.name.clone())
                    .or_insert_with(|| (Arc::clone(host), Arc::new(facts.clone())));
            }
        }
        Self { sandbox: Arc::new(command_run_facts()), hosted }
    }

    /// The names of all tools.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.sandbox.schema.name.as_str()).chain(self.hosted.keys().map(String::as_str))
    }

    /// Where the tool called `name` lives.
    pub(crate) fn find(&self, name: &str) -> Option<Home> {
        if name == self.sandbox.schema.name {
            return Some(Home::Sandbox(Arc::clone(&self.sandbox)));
        }
        self.hosted.get(name).map(|(host, facts)| Home::Host(Arc::clone(host), Arc::clone(facts)))
    }
}

/// What one run may find: the node's tools, then those of its tenant's servers as they stood when it was prepared.
pub(crate) struct Found<'a> {
    pub(crate) router: &'a Router,
    pub(crate) served: Option<&'a Arc<dyn ServerTools>>,
}

impl Found<'_> {
    /// Where the tool called `name` lives.
    pub(crate) fn find(&self, name: &str) -> Option<Home> {
        self.router.find(name).or_else(|| {
            let served = self.served?;
            let facts = served.tools().iter().find(|facts| facts.schema.name == name)?;
            let host: Arc<dyn ToolHost> = Arc::clone(served) as Arc<dyn ToolHost>;
            Some(Home::Host(host, Arc::new(facts.clone())))
        })
    }

    /// The names of all that may be found.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let served = self.served.into_iter().flat_map(|served| served.tools());
        self.router.names().chain(served.map(|facts| facts.schema.name.as_str()))
    }

    /// The name a manifest's entry has here.
    pub(crate) fn name_of<'b>(&'b self, tool: &'b ToolRef) -> Option<&'b str> {
        match &tool.server {
            None => Some(&tool.name),
            Some(server) => self.served?.named(server, &tool.name),
        }
    }
}
