//! What must hold of a run that was over, however often the daemon was killed meanwhile.

use std::collections::BTreeMap;
use std::time::Instant;

use aegis_e2e::Node;
use serde_json::Value;

use super::story::{self, Ask};

/// What the model is told of a call that a crash cut.
const INTERRUPTED: &str = "interrupted: the daemon was restarted";

/// One `kill -9`: from the signal to the start of the next daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// What was counted over many runs.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: usize,
    pub(crate) asked: usize,
    pub(crate) asked_again: usize,
    pub(crate) effects: usize,
    pub(crate) interrupted: usize,
    pub(crate) interrupted_with_effect: usize,
    pub(crate) retried: usize,
}

/// Judges the run `name`, whose execution is `id`.
pub(crate) fn judge(node: &Node, name: &str, id: &str, asked: &[Ask], kills: &[Kill], figures: &mut Figures) {
    let status = node.status(id);
    assert_eq!(status["status"], "completed", "{name}: {status}");
    assert_eq!(status["final_output"], "{\"answer\": 42}", "{name}: {status}");
    let asked: Vec<&Ask> = asked.iter().filter(|ask| ask.run == name).collect();
    let unknown = unknown_calls(node, id);
    figures.runs += 1;
    figures.asked += asked.len();
    for iteration in 1..=story::ITERATIONS {
        for position in [0, 1, 2, 3, story::RESULTS] {
            let asks: Vec<&Ask> = asked
                .iter()
                .copied()
                .filter(|ask| ask.iteration == iteration && ask.told.len() == position)
                .collect();
            let place = format!("{name}, iteration {iteration}, {position} results");
            let gaps = unknown.model.get(&(iteration, turn(position))).copied().unwrap_or_default();
            assert!(!asks.is_empty(), "{place}: never asked");
            assert!(asks.len() <= 1 + gaps, "{place}: asked {} times with {gaps} gaps", asks.len());
            for pair in asks.windows(2) {
                let crashed = kills.iter().any(|kill| pair[0].at < kill.until && kill.from < pair[1].at);
                assert!(crashed, "{place}: asked twice without a crash between");
            }
            figures.asked_again += asks.len() - 1;
        }
        let last = asked.iter().rev().find(|ask| ask.iteration == iteration).expect("a last request");
        effects(node, name, last, figures);
        let told = last.told.iter().filter(|text| text.contains(INTERRUPTED)).count();
        let cut = unknown.never_again.get(&iteration).copied().unwrap_or_default();
        assert_eq!(told, cut, "{name}, iteration {iteration}: the model was told of each cut call: {last:?}");
    }
    figures.retried += unknown.retried;
}

/// The turn of the conversation with so many tool results.
fn turn(results: usize) -> u64 {
    results.min(4) as u64
}

/// What is in the volume is what the model was told.
fn effects(node: &Node, name: &str, last: &Ask, figures: &mut Figures) {
    let Ask { iteration, told, .. } = last;
    let lines = story::volume_file(node.home(), &story::nonces(name));
    for place in story::NONCES {
        let nonce = story::nonce(name, *iteration, place);
        let count = lines.lines().filter(|line| *line == nonce).count();
        if told[place].contains(INTERRUPTED) {
            assert!(count <= 1, "{nonce}: {count} times");
            figures.interrupted += 1;
            figures.interrupted_with_effect += count;
        } else {
            assert_eq!(count, 1, "{nonce}; the model was told: {}\n{lines}", told[place]);
        }
        figures.effects += count;
    }
    let note = story::volume_file(node.home(), &story::note(name, *iteration));
    if told[story::EDIT].contains(INTERRUPTED) {
        assert!(["count:", "count:1"].contains(&note.as_str()), "{name}: `{note}`");
        figures.interrupted += 1;
    } else {
        assert_eq!(note, "count:1", "{name}; the model was told: {}", told[story::EDIT]);
    }
}

#[derive(Default)]
struct Unknown {
    /// Model calls without an outcome, by iteration and turn.
    model: BTreeMap<(u32, u64), usize>,
    /// Tool calls that are never made again, by iteration.
    never_again: BTreeMap<u32, usize>,
    /// Tool calls that were made again.
    retried: usize,
}

/// The gaps of the record.
fn unknown_calls(node: &Node, id: &str) -> Unknown {
    let stream = format!("execution/{id}");
    let kinds = "action.intended,action.unknown";
    let arguments =
        ["audit", "query", "--stream", &stream, "--kind", kinds, "--limit", "1000", "--output", "json"];
    let page = node.run(&arguments).ok().json();
    let mut intents: BTreeMap<String, Value> = BTreeMap::new();
    let mut unknown = Unknown::default();
    for event in page["items"].as_array().expect("events") {
        let body = &event["body"];
        let action = body["action"].as_str().expect("an action").to_owned();
        if event["kind"] == "action.intended" {
            intents.insert(action, body.clone());
            continue;
        }
        let intended = &intents[&action];
        let iteration = u32::try_from(intended["iteration"].as_u64().expect("an iteration")).expect("u32");
        let intent = &intended["intent"];
        match (intent["kind"].as_str(), body["retry"].as_bool()) {
            (Some("model"), _) => {
                let turn = intent["turn"].as_u64().expect("a turn");
                *unknown.model.entry((iteration, turn)).or_default() += 1;
            }
            (Some("tool"), Some(true)) => {
                assert_eq!(intent["tool"], "fs.write", "only what is idempotent is made again");
                unknown.retried += 1;
            }
            (Some("tool"), _) => *unknown.never_again.entry(iteration).or_default() += 1,
            other => panic!("{other:?}: {event}"),
        }
    }
    unknown
}
