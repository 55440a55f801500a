//! The node's configuration: read from a file or the embedded defaults, checked for what would be unsafe.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_api::CallError;
use aegis_core::limits::DOCUMENT_BYTES_MAX;
use aegis_core::{Diagnosis, ErrorCode, Sha256};
use aegis_kernel::policy::NodePolicy;
use aegis_manifest::{NodeConfig, parse_node_config};
use serde_json::Value;

/// What stands in place of a secret.
const MASK: &str = "[masked]";

/// A configuration and where it comes from.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    node: Arc<NodeConfig>,
    source: Option<PathBuf>,
    digest: Option<Sha256>,
    policies: Arc<[NodePolicy]>,
}

impl LoadedConfig {
    /// The configuration, defaults filled in.
    pub fn node(&self) -> &Arc<NodeConfig> {
        &self.node
    }
    /// The file; `None` for the embedded defaults.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }
    /// Its policies in Cedar, compiled.
    pub(crate) fn policies(&self) -> &Arc<[NodePolicy]> {
        &self.policies
    }
    /// SHA-256 of the file.
    pub(crate) fn digest(&self) -> Option<Sha256> {
        self.digest
    }
    /// The configuration as JSON with everything that could be a secret masked.
    pub fn masked(&self) -> Value {
        let mut value = serde_json::to_value(self.node.as_ref()).unwrap_or_default();
        mask(&mut value, None);
        value
    }
    /// What it asks for and this version does not do, each in one sentence with its remedy.
    pub fn warnings(&self) -> Vec<String> {
        let told = |diagnosis: Diagnosis| match diagnosis.hint {
            Some(hint) => format!("{}; {hint}", diagnosis.message),
            None => diagnosis.message,
        };
        self.node.unenforced().into_iter().map(told).collect()
    }
    /// The data folder it names; relative paths start from the file's folder.
    pub fn data_dir(&self) -> Option<PathBuf> {
        let named = Path::new(self.node.spec.storage.data_dir.as_ref()?);
        let base = self.source().and_then(Path::parent).unwrap_or(Path::new(""));
        let path = base.join(named);
        Some(std::path::absolute(&path).unwrap_or(path))
    }
    /// Where to listen: the configuration's address, or what the command line says.
    ///
    /// # Errors
    /// If the address is off loopback without TLS and without `allow_insecure_bind`.
    pub(crate) fn address(&self, host: Option<&str>, port: Option<u16>) -> Result<SocketAddr, Diagnosis> {
        let network = &self.node.spec.network;
        let ip = match host {
            None => network.bind_address,
            Some("localhost") => std::net::Ipv4Addr::LOCALHOST.into(),
            Some(host) => host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
                Diagnosis::new(ErrorCode::InvalidInput, format!("`{host}` is not an address to listen on"))
                    .hint("use an IP address, such as 127.0.0.1")
            })?,
        };
        if network.tls.is_some() {
            return Err(Diagnosis::capability_missing(
                "`spec.network.tls`: this version does not serve TLS",
                "remove it and put a TLS proxy in front, with `allow_insecure_bind: true` if it is on another machine",
            ));
        }
        if !ip.is_loopback() && !self.node.spec.allow_insecure_bind {
            return Err(Diagnosis::new(
                ErrorCode::InvalidInput,
                format!("listening on {ip} without TLS and sign-in would show tokens to the network"),
            )
            .hint("bind to 127.0.0.1, or set `spec.allow_insecure_bind: true` if the network is trusted"));
        }
        Ok(SocketAddr::new(ip, port.unwrap_or(network.port)))
    }
}

/// Reads a configuration; the embedded defaults without a path.
///
/// # Errors
/// If the file cannot be read, or with all its problems, rendered with their lines.
pub fn load_config(path: Option<&Path>) -> Result<LoadedConfig, CallError> {
    let Some(path) = path else {
        return Ok(LoadedConfig {
            node: Arc::new(NodeConfig::default()),
            source: None,
            digest: None,
            policies: Arc::new([]),
        });
    };
    let shown = path.display().to_string();
    let wrong = |what: String| Diagnosis::new(ErrorCode::InvalidInput, what);
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("`{shown}`: {error}")).hint("check `--config` and `AEGIS_CONFIG_PATH`")
    })?;
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(wrong(format!("`{shown}` is larger than {DOCUMENT_BYTES_MAX} bytes")).into());
    }
    let parsed = parse_node_config(&text, &shown, &|name| std::env::var(name).ok()).map_err(|found| {
        let problems = found.to_diagnoses();
        let rendered = Some(found.render());
        let diagnosis =
            problems.first().cloned().unwrap_or_else(|| wrong(format!("`{shown}` is not a configuration")));
        CallError { diagnosis, problems, rendered }
    })?;
    let base = path.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let policies = crate::policies::compile(&parsed, &shown, base).map_err(|problems| {
        let diagnosis =
            problems.first().cloned().unwrap_or_else(|| wrong(format!("`{shown}`: its policies")));
        CallError { diagnosis, problems, rendered: None }
    })?;
    aegis_kernel::KernelSettings::check_rules(&parsed.document).map_err(|problem| {
        wrong(format!("`{shown}`: {problem}")).hint("mend the entry; nothing else of the file is in force")
    })?;
    let digest = {
        use sha2::Digest as _;
        Sha256::from_bytes(sha2::Sha256::digest(text.as_bytes()).into())
    };
    Ok(LoadedConfig {
        node: Arc::new(parsed.document),
        source: Some(path.to_owned()),
        digest: Some(digest),
        policies,
    })
}

/// Masks values whose name says that they are secret, unless they only say where the secret lies; literals that are no
/// address; and in addresses the credentials.
fn mask(value: &mut Value, name: Option<&str>) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(name, inner)| mask(inner, Some(name))),
        Value::Array(items) => items.iter_mut().for_each(|inner| mask(inner, name)),
        Value::String(text) => {
            let refers = text.starts_with("env:") || text.starts_with("secret:");
            if refers {
                return;
            }
            // Where something lies is no secret; what stands in its address to be let in is.
            let address = text.strip_prefix("literal:").unwrap_or(text);
            let plain = without_credentials(address);
            if name.is_some_and(names_a_secret) || (text.starts_with("literal:") && plain.is_none()) {
                MASK.clone_into(text);
            } else if let Some(plain) = plain.filter(|plain| plain != address) {
                *text = plain;
            }
        }
        _ => {}
    }
}

/// An address with the credential before its host and the secret values of its query masked; `None` for other text.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return None;
    }
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let mut plain = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{path}"),
        None => format!("{scheme}://{place}"),
    };
    if let Some(query) = query {
        let masked = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if names_a_secret(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        });
        plain.push('?');
        plain.push_str(&masked.collect::<Vec<_>>().join("&"));
    }
    Some(plain)
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "password", "credential"].iter().any(|word| name.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_and_references_are_not() {
        let mut value = json!({"api_key": "literal:sk-1", "endpoint": "https://x/y", "process": {"auth_token": "t"},
            "model": "literal:x", "keys": [{"api_key": "env:KEY"}], "url": "postgres://me:p@w@host/db", "key_file": "a",
            "base": "literal:http://10.0.0.1:8000/v1", "hook": "https://h/x?a=1&access_token=t"});
        mask(&mut value, None);
        assert_eq!(
            value,
            json!({"api_key": MASK, "endpoint": "https://x/y", "process": {"auth_token": MASK},
                "model": MASK, "keys": [{"api_key": "env:KEY"}], "url": "postgres://[masked]@host/db", "key_file": "a",
                "base": "literal:http://10.0.0.1:8000/v1", "hook": "https://h/x?a=1&access_token=[masked]"})
        );
    }

    #[test]
    fn rules_that_would_permit_nothing_are_refused_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.yaml");
        for governance in [
            "network: {private: [internal.example]}",
            "network: {trusted: [10.0.0.0/8]}",
            "tool_labels: [{tool_pattern: '', sensitive: true}]",
        ] {
            let text = format!(
                "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: a}}\nspec:\n  governance: {{{governance}}}\n"
            );
            std::fs::write(&path, text).unwrap();
            let refused = load_config(Some(&path)).expect_err(governance);
            assert!(refused.diagnosis.message.contains("governance"), "{}", refused.diagnosis.message);
        }
    }

    #[test]
    fn the_defaults_listen_on_loopback() {
        let config = load_config(None).unwrap();
        assert_eq!(config.address(None, None).unwrap().to_string(), "127.0.0.1:8088");
        assert_eq!(config.address(Some("localhost"), Some(1)).unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(config.address(Some("::1"), Some(1)).unwrap().to_string(), "[::1]:1");
    }

    #[test]
    fn an_open_bind_is_refused_with_the_remedy() {
        let config = load_config(None).unwrap();
        let refused = config.address(Some("0.0.0.0"), None).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidInput);
        assert!(refused.hint.unwrap().contains("allow_insecure_bind"));
        assert!(config.address(Some("example.com"), None).is_err());
    }

    #[test]
    fn a_wrong_file_tells_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aegis-config.yaml");
        std::fs::write(&path, "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nspec:\n  netwrok: {}\n")
            .unwrap();
        let refused = load_config(Some(&path)).unwrap_err();
        assert!(refused.rendered.unwrap().contains("netwrok"));
        assert!(load_config(Some(&folder.path().join("none.yaml"))).is_err());
    }
}
