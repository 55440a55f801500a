//! What each run does: two iterations of five tool calls, of which three append a line that is counted afterwards.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aegis_testkit::scripted_model::{Reply, Script, Seen, Turn};
use serde_json::{Value, json};

/// The first attempt is refused, the second taken; a crash must not cost an attempt.
pub(crate) const VALIDATION: &str = "  execution:
    max_iterations: 2
    iteration_timeout: 120s
    validation:
      - type: exit_code
      - type: json_schema
        schema: {type: object, required: [answer], properties: {answer: {type: integer}}}
";
/// Iterations of each run.
pub(crate) const ITERATIONS: u32 = 2;
/// Tool results at the iteration's last request.
pub(crate) const RESULTS: usize = 5;
/// Places of the calls that append a line.
pub(crate) const NONCES: [usize; 3] = [1, 3, 4];
/// The place of the call that edits.
pub(crate) const EDIT: usize = 2;
/// A model thinks at least this long, and at most twice as long.
pub(crate) const THINKING: Duration = Duration::from_millis(60);

/// One request as the far side saw it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) run: String,
    pub(crate) iteration: u32,
    pub(crate) at: Instant,
    /// What the model is told of its calls so far.
    pub(crate) told: Vec<String>,
}

/// Everything the far side was asked.
#[derive(Clone, Default)]
pub(crate) struct FarSide(Arc<Mutex<Vec<Ask>>>);

impl FarSide {
    /// What was asked, oldest first.
    pub(crate) fn asked(&self) -> Vec<Ask> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The script of the runs whose names start with `tag`.
    pub(crate) fn script(&self, tag: &str) -> Script {
        let (far_side, tag) = (self.clone(), tag.to_owned());
        Script::new(move |seen| {
            let Some(run) = run_of(seen, &tag) else { return Reply::status(400, "no run is named") };
            let iteration = if seen.mentions("Your previous attempt failed") { 2 } else { 1 };
            let told = seen.tool_result_texts().map(str::to_owned).collect();
            let ask = Ask { run: run.clone(), iteration, at: Instant::now(), told };
            far_side.0.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
            let jitter = THINKING.mul_f64((seen.ordinal % 8) as f64 / 8.0);
            Reply::After(THINKING + jitter, Box::new(reply(seen, &run, iteration)))
        })
    }
}

fn reply(seen: &Seen, run: &str, iteration: u32) -> Reply {
    let note = format!("/workspace/{}", note(run, iteration));
    match seen.tool_results() {
        0 => Reply::call("fs.write", &json!({"path": note, "content": "count:"})),
        1 => Reply::call("cmd.run", &append(run, iteration, 1)),
        2 => Reply::call("fs.edit", &json!({"path": note, "old_string": "count:", "new_string": "count:1"})),
        3 => Reply::Turn(
            Turn::call("cmd.run", &append(run, iteration, 3)).and_call("cmd.run", &append(run, iteration, 4)),
        ),
        _ if iteration == 1 => Reply::text("it is 42"),
        _ => Reply::text("{\"answer\": 42}"),
    }
}

/// A program that appends a line in the middle of its time.
fn append(run: &str, iteration: u32, place: usize) -> Value {
    let line = nonce(run, iteration, place);
    let script = format!("sleep 0.05; echo {line} >> /workspace/{}; sleep 0.1", nonces(run));
    json!({"command": "sh", "args": ["-c", script]})
}

/// The line that a call appends.
pub(crate) fn nonce(run: &str, iteration: u32, place: usize) -> String {
    format!("{run}-{iteration}-{place}")
}

/// The file of a run's lines.
pub(crate) fn nonces(run: &str) -> String {
    format!("nonces-{run}")
}

/// The file that is written and edited.
pub(crate) fn note(run: &str, iteration: u32) -> String {
    format!("note-{run}-{iteration}")
}

fn run_of(seen: &Seen, tag: &str) -> Option<String> {
    let text = seen.messages.iter().find_map(|message| message.text.split_once(tag))?.1;
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{tag}{number}"))
}

/// The text of the file of this name in the data folder's volumes; empty if there is none.
pub(crate) fn volume_file(home: &Path, name: &str) -> String {
    let mut folders: Vec<PathBuf> = vec![home.join("volumes")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                return std::fs::read_to_string(entry.path()).unwrap_or_default();
            }
        }
    }
    String::new()
}
