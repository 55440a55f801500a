//! `aegis key …`

use aegis_api::NewKey;
use serde_json::json;

use crate::args::{Global, Key};
use crate::failure::Failure;
use crate::output;
use crate::table::table;

pub(super) async fn run(global: &Global, command: Key) -> Result<(), Failure> {
    let client = global.client()?;
    match command {
        Key::Create { name, role, agent } => {
            let made = client.create_key(&NewKey { name, role: role.name().to_owned(), agent }).await?;
            output::show(global.output, &made, |made| {
                format!("Key {}\n{}\nIt is shown this once and kept nowhere.", made.id, made.key)
            })
        }
        Key::List => {
            let page = client.keys().await?;
            output::show(global.output, &page, |page| {
                let rows = page.items.iter().map(|key| {
                    let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                    vec![
                        key.id.clone(),
                        key.name.clone(),
                        key.role.clone(),
                        key.agent.clone().unwrap_or_default(),
                        state.to_owned(),
                        key.last_used.clone().unwrap_or_default(),
                    ]
                });
                table(&["ID", "NAME", "ROLE", "AGENT", "STATUS", "LAST USED"], rows)
            })
        }
        Key::Revoke { key } => {
            client.revoke_key(&key).await?;
            let value = json!({"id": key, "status": "revoked"});
            output::show(global.output, &value, |_| format!("Revoked key {key}"))
        }
        Key::Rotate => {
            let rotated = client.rotate_signing_key().await?;
            output::show(global.output, &rotated, |rotated| {
                format!("Tokens are signed by key {} from now on", rotated.key_id)
            })
        }
    }
}
