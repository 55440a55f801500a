//! Acts of a person: who may, and what stands on record of them.

use aegis_core::{Body, Diagnosis, Durability, ErrorCode};
use aegis_kernel::Caller;
use aegis_kernel::port::Append;

use crate::answer::Refused;
use crate::app::App;

/// Refuses whoever is no person; `what` follows "only a person may".
pub(super) fn only(caller: &Caller, what: &str) -> Result<(), Refused> {
    if caller.actor.is_person() {
        return Ok(());
    }
    let what = Diagnosis::new(ErrorCode::PermissionDenied, format!("only a person may {what}"));
    Err(what.hint("sign in, or use the node's own token").into())
}

/// Records what `caller` does, so that no power failure takes it back.
pub(crate) async fn record(app: &App, caller: &Caller, body: Body) -> Result<(), Refused> {
    let mut append = app.fleet_events(std::iter::once(body));
    for event in &mut append.events {
        event.actor.clone_from(&caller.actor);
    }
    let append = Append { tenant: caller.tenant.clone(), durability: Durability::Power, ..append };
    app.journal().append(append).await?;
    Ok(())
}
