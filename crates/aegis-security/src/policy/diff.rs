//! What a change of rules widens and narrows.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Authority, RowResult, Ruling};
use crate::constraint::{Capability, RateLimit};

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More may be permitted than before.
    Widens,
    /// Less may be.
    Narrows,
    /// It may go either way, such as another order or another schema: it counts as widening where that needs a person.
    Unclear,
}

/// A change of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which way it goes.
    pub direction: Direction,
    /// Where: `deny_list`, `capabilities[1].path_allowlist`, `authority.review`.
    pub place: String,
    /// What was there before.
    pub before: Option<String>,
    /// What is there now.
    pub after: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = match self.direction {
            Direction::Widens => "widens",
            Direction::Narrows => "narrows",
            Direction::Unclear => "changes",
        };
        write!(f, "{direction} {}: ", self.place)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{before} -> {after}"),
            (None, Some(after)) => write!(f, "+{after}"),
            (Some(before), None) => write!(f, "-{before}"),
            (None, None) => Ok(()),
        }
    }
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn put(&mut self, direction: Direction, place: &str, before: Option<String>, after: Option<String>) {
        self.0.push(Change { direction, place: place.to_owned(), before, after });
    }
    /// Entries that permit (`added` = widens) or deny (`added` = narrows).
    fn entries(&mut self, place: &str, before: &[String], after: &[String], added: Direction) {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
        for entry in new.difference(&old) {
            self.put(added, place, None, Some((*entry).clone()));
        }
        for entry in old.difference(&new) {
            self.put(opposite(added), place, Some((*entry).clone()), None);
        }
    }
    /// A list whose absence does not constrain.
    fn allowlist(&mut self, place: &str, before: Option<&Vec<String>>, after: Option<&Vec<String>>) {
        match (before, after) {
            (None, None) => {}
            (Some(before), Some(after)) => self.entries(place, before, after, Direction::Widens),
            (Some(before), None) => self.put(Direction::Widens, place, Some(list(before)), None),
            (None, Some(after)) => self.put(Direction::Narrows, place, None, Some(list(after))),
        }
    }
    /// A limit whose absence does not limit.
    fn limit<T: PartialOrd + std::fmt::Display>(&mut self, place: &str, before: Option<T>, after: Option<T>) {
        let direction = match (&before, &after) {
            (Some(before), Some(after)) => match after.partial_cmp(before) {
                Some(Ordering::Equal) => return,
                Some(Ordering::Greater) => Direction::Widens,
                _ => Direction::Narrows,
            },
            (Some(_), None) => Direction::Widens,
            (None, Some(_)) => Direction::Narrows,
            (None, None) => return,
        };
        self.put(
            direction,
            place,
            before.map(|limit| limit.to_string()),
            after.map(|limit| limit.to_string()),
        );
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Widens => Direction::Narrows,
        Direction::Narrows => Direction::Widens,
        Direction::Unclear => Direction::Unclear,
    }
}

fn list(entries: &[String]) -> String {
    format!("[{}]", entries.join(", "))
}

/// What changes between two versions of a security context. Capabilities are compared by their tool pattern, the first
/// of a pattern with the first of it, the second with the second.
pub fn diff_contexts(before: (&[Capability], &[String]), after: (&[Capability], &[String])) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.entries("deny_list", before.1, after.1, Direction::Narrows);
    let (old, new) = (keyed(before.0), keyed(after.0));
    for (key, (index, capability)) in &new {
        let place = format!("capabilities[{index}]");
        match old.get(key) {
            Some((_, known)) => fields(&mut changes, &place, known, capability),
            None => changes.put(Direction::Widens, &place, None, Some(capability.tool_pattern.clone())),
        }
    }
    for (key, (index, capability)) in &old {
        if !new.contains_key(key) {
            let place = format!("capabilities[{index}]");
            changes.put(Direction::Narrows, &place, Some(capability.tool_pattern.clone()), None);
        }
    }
    // The first that matches is selected, and its limits apply: the order of those that stay matters.
    let order = |of: &Keyed<'_>, other: &Keyed<'_>| {
        let mut kept: Vec<_> = of.iter().filter(|(key, _)| other.contains_key(*key)).collect();
        kept.sort_by_key(|(_, (index, _))| *index);
        kept.into_iter().map(|((pattern, _), _)| (*pattern).to_owned()).collect::<Vec<_>>()
    };
    let (was, is) = (order(&old, &new), order(&new, &old));
    if was != is {
        changes.put(Direction::Unclear, "capabilities", Some(list(&was)), Some(list(&is)));
    }
    changes.0
}

/// Capabilities by pattern and how often it came before.
type Keyed<'a> = BTreeMap<(&'a str, usize), (usize, &'a Capability)>;

fn keyed(capabilities: &[Capability]) -> Keyed<'_> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut keyed = BTreeMap::new();
    for (index, capability) in capabilities.iter().enumerate() {
        let count = seen.entry(&capability.tool_pattern).or_default();
        keyed.insert((capability.tool_pattern.as_str(), *count), (index, capability));
        *count += 1;
    }
    keyed
}

fn fields(changes: &mut Changes, place: &str, before: &Capability, after: &Capability) {
    let at = |field: &str| format!("{place}.{field}");
    for (field, old, new) in [
        ("path_allowlist", &before.path_allowlist, &after.path_allowlist),
        ("domain_allowlist", &before.domain_allowlist, &after.domain_allowlist),
        ("command_allowlist", &before.command_allowlist, &after.command_allowlist),
    ] {
        changes.allowlist(&at(field), old.as_ref(), new.as_ref());
    }
    subcommands(changes, &at("subcommand_allowlist"), before, after);
    let schema = |capability: &Capability| capability.arguments.as_ref().map(ToString::to_string);
    match (schema(before), schema(after)) {
        (None, None) => {}
        (Some(old), None) => changes.put(Direction::Widens, &at("arguments"), Some(old), None),
        (None, Some(new)) => changes.put(Direction::Narrows, &at("arguments"), None, Some(new)),
        (Some(old), Some(new)) if old == new => {}
        (old, new) => changes.put(Direction::Unclear, &at("arguments"), old, new),
    }
    changes.limit(&at("max_response_size"), before.max_response_size, after.max_response_size);
    changes.limit(&at("max_concurrent"), before.max_concurrent, after.max_concurrent);
    rate(changes, &at("rate_limit"), before.rate_limit, after.rate_limit);
}

fn subcommands(changes: &mut Changes, place: &str, before: &Capability, after: &Capability) {
    match (&before.subcommand_allowlist, &after.subcommand_allowlist) {
        (None, None) => {}
        (Some(old), None) => {
            let programs: Vec<String> = old.keys().cloned().collect();
            changes.put(Direction::Widens, place, Some(list(&programs)), None);
        }
        (None, Some(new)) => {
            let programs: Vec<String> = new.keys().cloned().collect();
            changes.put(Direction::Narrows, place, None, Some(list(&programs)));
        }
        (Some(old), Some(new)) => {
            // A program without an entry is free where command_allowlist names it, else not permitted at all.
            let programs: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for program in programs {
                let place = format!("{place}.{program}");
                match (old.get(program), new.get(program)) {
                    (Some(old), Some(new)) => changes.entries(&place, old, new, Direction::Widens),
                    (old, new) => {
                        let named = before.command_allowlist.is_some() || after.command_allowlist.is_some();
                        let direction = match (named, new.is_some()) {
                            (true, _) => Direction::Unclear,
                            (false, true) => Direction::Widens,
                            (false, false) => Direction::Narrows,
                        };
                        changes.put(direction, &place, old.map(|old| list(old)), new.map(|new| list(new)));
                    }
                }
            }
        }
    }
}

fn rate(changes: &mut Changes, place: &str, before: Option<RateLimit>, after: Option<RateLimit>) {
    let text = |limit: RateLimit| format!("{} per {} s", limit.calls, limit.per_seconds);
    let direction = match (before, after) {
        (None, None) => return,
        (Some(old), Some(new)) if old == new => return,
        (Some(_), None) => Direction::Widens,
        (None, Some(_)) => Direction::Narrows,
        // More calls in no longer a window is wider; more calls in a longer one may be either.
        (Some(old), Some(new)) => match (new.calls >= old.calls, new.per_seconds <= old.per_seconds) {
            (true, true) => Direction::Widens,
            _ if new.calls <= old.calls && new.per_seconds >= old.per_seconds => Direction::Narrows,
            _ => Direction::Unclear,
        },
    };
    changes.put(direction, place, before.map(text), after.map(text));
}

/// What changes between two versions of a soul's authority. A tool in no list asks, so a pattern that joins `review`
/// never widens by itself; one that leaves it may, where `autonomous` names the tool too.
pub fn diff_authorities(before: &Authority, after: &Authority) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.entries("authority.autonomous", &before.autonomous, &after.autonomous, Direction::Widens);
    changes.entries("authority.review", &before.review, &after.review, Direction::Narrows);
    changes.entries("authority.forbidden", &before.forbidden, &after.forbidden, Direction::Narrows);
    changes.limit("authority.max_risk", before.max_risk, after.max_risk);
    changes.0
}

/// A row on which two policies differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// Its place in the table, from 0.
    pub row: usize,
    /// Whether more is permitted now. Asking lies between permitting and denying.
    pub direction: Direction,
    /// What the old policy says; absent if it could not be asked.
    pub before: Option<Ruling>,
    /// What the new one says.
    pub after: Option<Ruling>,
    /// Why the new one says so.
    pub reason: String,
}

/// The rows of one table, run under two policies, whose verdicts differ.
pub fn diff_verdicts(before: &[RowResult], after: &[RowResult]) -> Vec<VerdictChange> {
    let ruling = |result: &RowResult| result.explanation.as_ref().map(|explanation| explanation.ruling);
    let rows = before.iter().zip(after).enumerate();
    let differing = rows.filter(|(_, (old, new))| ruling(old) != ruling(new));
    differing
        .map(|(row, (old, new))| {
            let (before, after) = (ruling(old), ruling(new));
            let direction = match (before, after) {
                (Some(before), Some(after)) => match after.cmp(&before) {
                    Ordering::Less => Direction::Widens,
                    _ => Direction::Narrows,
                },
                _ => Direction::Unclear,
            };
            let reasons = new.explanation.iter().flat_map(|explanation| explanation.deciding());
            let reason = reasons.map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let reason = if reason.is_empty() { new.failure.clone().unwrap_or_default() } else { reason };
            VerdictChange { row, direction, before, after, reason }
        })
        .collect()
}
