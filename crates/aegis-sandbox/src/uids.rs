//! Which host user an execution's sandboxes run as.

use std::collections::{HashMap, HashSet};

use aegis_core::ExecutionId;

/// How many assignments are remembered for executions without a running sandbox.
const REMEMBERED_MAX: usize = 16_384;

/// Assigns host users so that executions whose sandboxes run at the same time never share one.
#[derive(Debug)]
pub(crate) struct Uids {
    first: u32,
    count: u32,
    by_execution: HashMap<ExecutionId, Assigned>,
    taken: HashSet<u32>,
    clock: u64,
}

#[derive(Debug)]
struct Assigned {
    uid: u32,
    running: u32,
    last_used: u64,
}

impl Uids {
    /// A registry over `first .. first + count`.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        Self { first, count: count.max(1), by_execution: HashMap::new(), taken: HashSet::new(), clock: 0 }
    }

    /// The execution's user: the one its id hashes to, or the next free one if another execution has it.
    pub(crate) fn assign(&mut self, execution: ExecutionId) -> u32 {
        self.clock += 1;
        let now = self.clock;
        if let Some(known) = self.by_execution.get_mut(&execution) {
            known.last_used = now;
            return known.uid;
        }
        self.forget_idle();
        let start = preferred(execution, self.count);
        let uid = (0..self.count)
            .map(|step| self.first + (start + step) % self.count)
            .find(|uid| !self.taken.contains(uid))
            .unwrap_or(self.first + start);
        self.taken.insert(uid);
        self.by_execution.insert(execution, Assigned { uid, running: 0, last_used: now });
        uid
    }

    /// Notes that a sandbox of the execution starts; `false` if `uid` is not the user assigned to it.
    pub(crate) fn started(&mut self, execution: ExecutionId, uid: u32) -> bool {
        let assigned = self.assign(execution);
        match self.by_execution.get_mut(&execution) {
            Some(entry) if assigned == uid => {
                entry.running += 1;
                true
            }
            _ => false,
        }
    }

    /// Notes that a sandbox of the execution has ended.
    pub(crate) fn ended(&mut self, execution: ExecutionId) {
        if let Some(entry) = self.by_execution.get_mut(&execution) {
            entry.running = entry.running.saturating_sub(1);
        }
    }

    /// Forgets the half of the assignments that were idle longest when there are too many for the range.
    fn forget_idle(&mut self) {
        let limit = REMEMBERED_MAX.min(usize::try_from(self.count / 2).unwrap_or(REMEMBERED_MAX)).max(1);
        if self.by_execution.len() < limit {
            return;
        }
        let mut idle: Vec<(u64, ExecutionId, u32)> = self
            .by_execution
            .iter()
            .filter(|(_, entry)| entry.running == 0)
            .map(|(id, entry)| (entry.last_used, *id, entry.uid))
            .collect();
        idle.sort_unstable_by_key(|(last_used, ..)| *last_used);
        for (_, execution, uid) in idle.iter().take(limit.div_ceil(2)) {
            self.by_execution.remove(execution);
            self.taken.remove(uid);
        }
    }
}

/// The place in the range an execution prefers; ids of version 7 differ most in their low bits.
fn preferred(execution: ExecutionId, count: u32) -> u32 {
    let bits = execution.uuid().as_u128();
    let folded = (bits ^ (bits >> 64)) % u128::from(count);
    u32::try_from(folded).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn execution(number: u128) -> ExecutionId {
        ExecutionId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn an_execution_keeps_its_user_and_shares_it_with_nobody() {
        let mut uids = Uids::new(1000, 8);
        let one = uids.assign(execution(3));
        let other = uids.assign(execution(11));
        assert_ne!(one, other, "both hash to the same place");
        assert_eq!(uids.assign(execution(3)), one);
    }

    #[test]
    fn an_idle_assignment_makes_room_and_a_running_one_stays() {
        let mut uids = Uids::new(1000, 8);
        let kept = uids.assign(execution(0));
        assert!(uids.started(execution(0), kept));
        for number in 1..100 {
            assert_ne!(uids.assign(execution(number)), kept);
        }
        uids.ended(execution(0));
    }

    #[test]
    fn a_start_as_another_user_is_refused() {
        let mut uids = Uids::new(1000, 8);
        let uid = uids.assign(execution(0));
        assert!(!uids.started(execution(0), uid + 1));
    }
}
