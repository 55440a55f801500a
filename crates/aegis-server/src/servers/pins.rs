//! Pins of tool servers, kept in the door's database.

use std::sync::Arc;

use aegis_core::{Name, Tenant};
use aegis_store::{Door, Pin};
use aegis_tools::mcp::{PinDocument, PinRecord, PinStore};

/// A store over the database.
pub(super) fn in_door(door: Arc<Door>) -> PinStore {
    let reader = Arc::clone(&door);
    PinStore {
        load: Arc::new(move |tenant, server| {
            let door = Arc::clone(&reader);
            Box::pin(async move { load(&door, &tenant, &server).await })
        }),
        save: Arc::new(move |tenant, server, record| {
            let door = Arc::clone(&door);
            Box::pin(async move { save(&door, &tenant, &server, &record).await })
        }),
    }
}

async fn load(door: &Door, tenant: &Tenant, server: &Name) -> Result<Option<PinRecord>, String> {
    let pins = door.server_pins(tenant, server.as_str()).await.map_err(|error| error.to_string())?;
    let (accepted, held) = pins;
    if accepted.is_none() && held.is_none() {
        return Ok(None);
    }
    Ok(Some(PinRecord {
        accepted: accepted.as_ref().map(read).transpose()?,
        shown: held.as_ref().map(read).transpose()?,
    }))
}

/// A pin's document, which has to have the hash it is kept under.
fn read(pin: &Pin) -> Result<PinDocument, String> {
    let document: PinDocument = serde_json::from_str(&pin.document).map_err(|error| error.to_string())?;
    if document.digest()? == pin.hash {
        Ok(document)
    } else {
        Err(format!("the pin of `{}` is damaged: its hash is another", pin.server))
    }
}

/// The database takes what is accepted only as first seen, or by the hash that was held.
async fn save(door: &Door, tenant: &Tenant, server: &Name, record: &PinRecord) -> Result<(), String> {
    let failed = |error: aegis_store::DoorError| error.to_string();
    let server = server.as_str();
    let (accepted, held) = door.server_pins(tenant, server).await.map_err(failed)?;
    if let Some(document) = &record.accepted {
        let hash = document.digest()?;
        if held.is_some_and(|held| held.hash == hash)
            && accepted.is_some_and(|accepted| accepted.hash != hash)
        {
            door.accept_server(tenant, server, &hash).await.map_err(failed)?;
        } else {
            observe(door, tenant, server, document).await?;
        }
    }
    match &record.shown {
        Some(document) => observe(door, tenant, server, document).await,
        None => Ok(()),
    }
}

async fn observe(door: &Door, tenant: &Tenant, server: &str, document: &PinDocument) -> Result<(), String> {
    let text = serde_json::to_string(document).map_err(|error| error.to_string())?;
    let observed = door.observe_server(tenant, server, &document.digest()?, &text).await;
    observed.map(drop).map_err(|error| error.to_string())
}
