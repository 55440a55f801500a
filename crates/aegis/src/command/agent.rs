//! `aegis agent …`

use aegis_api::{Agent as Shown, Client};
use serde_json::json;

use super::logs;
use crate::args::{Agent, Format, Global};
use crate::failure::Failure;
use crate::follow::Wanted;
use crate::later::missing;
use crate::table::table;
use crate::{manifest, output};

pub(super) async fn run(global: &Global, command: Agent) -> Result<(), Failure> {
    match command {
        Agent::Deploy { file, validate_only, force } => {
            let document = manifest::read(&file)?;
            let name = file.display().to_string();
            let deployed = global.client()?.deploy(document, Some(&name), force, validate_only).await?;
            for warning in &deployed.warnings {
                output::note(&format!("warning: {warning}"));
            }
            output::show(global.output, &deployed, |deployed| match deployed.status.as_str() {
                "valid" => format!("Valid agent \"{}\" (version {})", deployed.name, deployed.version),
                _ => format!("Deployed agent \"{}\" (id: {})", deployed.name, deployed.id),
            })
        }
        Agent::List { limit } => {
            let page = global.client()?.agents(None, limit).await?;
            output::show(global.output, &page, |page| {
                table(&["ID", "NAME", "STATUS", "RUNTIME", "LABELS"], page.items.iter().map(row))
            })
        }
        Agent::Show { agent } => {
            let shown = global.client()?.agent(&agent).await?;
            match global.output {
                Some(Format::Json) => output::json(&shown),
                _ => output::text(&shown.document.unwrap_or_default()),
            }
        }
        Agent::Versions { agent } => {
            let client = global.client()?;
            let id = id_of(&client, &agent).await?;
            let page = client.agent_versions(&id).await?;
            output::show(global.output, &page, |page| {
                let rows = page.items.iter().map(|known| {
                    vec![known.version.clone(), known.deployed_at.clone(), known.digest.clone()]
                });
                table(&["VERSION", "DEPLOYED", "SHA-256"], rows)
            })
        }
        Agent::Pause { agent } => {
            let client = global.client()?;
            let shown = client.agent(&agent).await?;
            client.pause_agent(&shown.id).await?;
            done(global, &shown, "Paused", "paused")
        }
        Agent::Resume { agent } => {
            let client = global.client()?;
            let shown = client.agent(&agent).await?;
            client.resume_agent(&shown.id).await?;
            done(global, &shown, "Resumed", "deployed")
        }
        Agent::Remove { agent } => {
            let client = global.client()?;
            let shown = client.agent(&agent).await?;
            client.remove_agent(&shown.id).await?;
            done(global, &shown, "Removed", "removed")
        }
        Agent::Logs { agent, follow, errors, verbose } => {
            let client = global.client()?;
            let id = id_of(&client, &agent).await?;
            let stream = client.agent_events(&id, follow).verbose(verbose);
            logs::tell(global, stream, Wanted { errors_only: errors, verbose }).await.map(drop)
        }
        Agent::Generate { .. } => Err(missing("aegis agent generate")),
    }
}

/// The id of an agent named by id or name. An id is taken as it is, so that a removed agent's history can be read.
pub(super) async fn id_of(client: &Client, agent: &str) -> Result<String, Failure> {
    if agent.parse::<aegis_core::AgentId>().is_ok() {
        return Ok(agent.to_owned());
    }
    Ok(client.agent(agent).await?.id)
}

fn row(agent: &Shown) -> Vec<String> {
    let labels: Vec<String> = agent.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![agent.id.clone(), agent.name.clone(), agent.status.clone(), agent.runtime.clone(), labels.join(",")]
}

fn done(global: &Global, agent: &Shown, verb: &str, status: &str) -> Result<(), Failure> {
    let value = json!({"id": agent.id, "name": agent.name, "status": status});
    output::show(global.output, &value, |_| format!("{verb} agent \"{}\" (id: {})", agent.name, agent.id))
}
