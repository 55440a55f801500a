//! Events of the node itself, on their way to the record.

use aegis_core::{
    Actor, Body, Durability, EventId, NewEvent, SpanContext, SpanId, StreamId, Tenant, TraceId,
};
use aegis_kernel::port::{Append, Clock, Ids};

use crate::app::App;

/// Events of the node, each in a trace of its own.
pub(crate) fn fleet_events(clock: &dyn Clock, ids: &dyn Ids, bodies: impl Iterator<Item = Body>) -> Append {
    let events = bodies.map(|body| {
        let (mut trace, mut span) = ([0u8; 16], [0u8; 8]);
        ids.fill(&mut trace);
        ids.fill(&mut span);
        let span = SpanContext {
            trace_id: TraceId::from_bytes(trace),
            span_id: SpanId::from_bytes(span),
            parent_span_id: None,
        };
        NewEvent { id: EventId::from_uuid(ids.uuid()), at: clock.now(), span, actor: Actor::daemon(), body }
    });
    Append {
        tenant: Tenant::default_tenant(),
        stream: StreamId::Fleet,
        expected: None,
        events: events.collect(),
        blobs: Vec::new(),
        durability: Durability::Process,
    }
}

impl App {
    /// Events of the node, by its own clock.
    pub(crate) fn fleet_events(&self, bodies: impl Iterator<Item = Body>) -> Append {
        fleet_events(self.clock.as_ref(), self.ids.as_ref(), bodies)
    }
}
