//! Volumes.

use aegis_core::{Body, Event, VolumeId};

use super::{Projections, VolumeRow};

pub(super) fn apply(projections: &mut Projections, id: VolumeId, event: &Event) {
    let key = id.to_string();
    match &event.body {
        Body::VolumeCreated { name, execution, size_limit, expires_at } => {
            let row = VolumeRow {
                tenant: event.tenant.clone(),
                name: name.clone(),
                execution: *execution,
                size_limit: *size_limit,
                created_at: event.at,
                created_seq: event.seq,
                expires_at: *expires_at,
                removed: false,
                last_tree: None,
            };
            projections.volumes.put(key, row);
        }
        Body::VolumeTreeRecorded { files, bytes, .. } => {
            projections.volumes.change(&key, |volume| volume.last_tree = Some((*files, *bytes)));
        }
        Body::VolumeRemoved { .. } => projections.volumes.change(&key, |volume| volume.removed = true),
        _ => {}
    }
}
