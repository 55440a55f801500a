//! The repositories that the node's configuration names, checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_manifest::NodeConfig;
use aegis_manifest::node::GitRemote;
use aegis_security::egress::{Destination, EgressRules, Host};

/// Repositories by the names that agents know them by.
pub(super) type Remotes = BTreeMap<String, Arc<Remote>>;

/// A repository outside.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) said: GitRemote,
    /// The host as it is written in requests.
    pub(super) written_host: String,
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) path: String,
    /// The remote's own rule, then the node's on connections: all must permit.
    pub(super) layers: Arc<[EgressRules]>,
}

impl Remote {
    pub(super) fn pack_bytes_max(&self) -> usize {
        usize::try_from(self.said.pack_size_max.bytes()).unwrap_or(usize::MAX)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.said.timeout.duration()
    }
}

/// Reads `spec.git`.
///
/// # Errors
/// The first entry that cannot be put into force.
pub(super) fn remotes(node: &NodeConfig) -> Result<Remotes, String> {
    let said = node.spec.git.iter().flat_map(|git| &git.remotes);
    said.map(|remote| Ok((remote.name.clone(), Arc::new(checked(remote, node)?)))).collect()
}

fn checked(said: &GitRemote, node: &NodeConfig) -> Result<Remote, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("`spec.git.remotes`: `{}`: {why}", said.name);
    let (written, port, path) = said.place().ok_or_else(|| wrong(&"its address is not a plain https one"))?;
    let host = Host::parse(written).map_err(|error| wrong(&error))?;
    let list = |texts: &[String]| -> Vec<Destination> {
        texts.iter().map(|text| Destination::from(text.as_str())).collect()
    };
    let only = match &host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Address(std::net::IpAddr::V4(address)) => format!("{address}/32:{port}"),
        Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}/128]:{port}"),
    };
    let network = node.spec.governance.as_ref().and_then(|governance| governance.network.as_ref());
    let opened = network.map(|network| network.private.as_slice()).unwrap_or_default();
    let private = list(&[opened, &said.private].concat());
    let own = EgressRules::of_node(&list(&[only]), &[], &private).map_err(|error| wrong(&error))?;
    let mut layers = vec![own];
    if let Some(network) = network {
        let rules = EgressRules::of_node(&list(&network.allowlist), &list(&network.denylist), &private);
        layers.push(rules.map_err(|error| wrong(&error))?);
    }
    Ok(Remote {
        said: said.clone(),
        written_host: host.to_string(),
        host,
        port,
        path: path.to_owned(),
        layers: layers.into(),
    })
}
