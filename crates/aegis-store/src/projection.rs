//! Projections: what the log says now. Pure: events go in, records come out; the writer stores them in the
//! transaction of the events, and a rebuild from the leaves alone gives the same records.

mod agent;
mod execution;
mod rows;
mod table;
mod volume;

use aegis_core::{Body, Event, Outcome, StreamId};

pub(crate) use rows::{AgentRow, CostRow, ExecutionRow, IterationRow, VersionRow, VolumeRow};
pub(crate) use table::{Row, Table};

/// All records, or those the writer has at hand.
#[derive(Debug, Default)]
pub(crate) struct Projections {
    pub(crate) agents: Table<AgentRow>,
    pub(crate) versions: Table<VersionRow>,
    pub(crate) executions: Table<ExecutionRow>,
    pub(crate) iterations: Table<IterationRow>,
    pub(crate) volumes: Table<VolumeRow>,
    pub(crate) costs: Table<CostRow>,
}

impl Projections {
    /// Names the records that an event of this stream reads, so that they can be loaded first.
    pub(crate) fn want(&mut self, stream: StreamId, body: &Body) {
        match stream {
            StreamId::Agent(id) => self.agents.want(id.to_string()),
            StreamId::Volume(id) => self.volumes.want(id.to_string()),
            StreamId::Execution(id) => {
                self.executions.want(id.to_string());
                if let Some(number) = execution::iteration_of(body) {
                    self.iterations.want(execution::iteration_key(&id.to_string(), number));
                }
            }
            StreamId::Fleet => {}
        }
    }

    /// Takes in one event. Events of entities that were never made change nothing.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event.stream {
            StreamId::Agent(id) => agent::apply(self, id, event),
            StreamId::Execution(id) => {
                execution::apply(self, id, event);
                self.book(event);
            }
            StreamId::Volume(id) => volume::apply(self, id, event),
            StreamId::Fleet => {}
        }
    }

    fn book(&mut self, event: &Event) {
        if let Body::ActionCompleted { outcome: Outcome::Model { usage, .. }, .. } = &event.body
            && usage.cost.micros() > 0
        {
            let micros = usage.cost.micros();
            let row = CostRow { tenant: event.tenant.clone(), at: event.at, micros };
            self.costs.put(event.seq.to_string(), row);
        }
    }

    /// Forgets what is stored, when there is much of it.
    pub(crate) fn trim(&mut self, most: usize) {
        self.agents.trim(most);
        self.versions.trim(0);
        self.executions.trim(most);
        self.iterations.trim(most);
        self.volumes.trim(most);
        self.costs.trim(0);
    }
}
