//! From the attacker's side, through the real daemon: each attempt fails, and what the daemon could see is on record.
//!
//! The model is a puppet: the input of a run lists the tool calls it makes, and its answer is what they gave back.
//! `docs/decisions/attacks.md` has the table of attacks, tests and records.

mod author;
mod control;
mod daemon;
mod files;
pub(crate) mod http;
mod limits;
mod sandbox;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Script, Seen};
use serde_json::{Value, json};

/// Makes the calls of the input one after another, then answers with the list of their results.
fn puppet() -> Script {
    Script::new(|seen| {
        let calls = calls(seen);
        match calls.get(seen.tool_results()) {
            Some(call) => Reply::call(call["tool"].as_str().unwrap_or_default(), &call["arguments"]),
            None => Reply::text(json!(seen.tool_result_texts().collect::<Vec<_>>()).to_string()),
        }
    })
}

fn calls(seen: &Seen) -> Vec<Value> {
    let prompt = seen.messages.iter().find(|message| message.role == "user").expect("a prompt");
    let (_, input) = prompt.text.split_once("User: ").expect("the input");
    let input = serde_json::Deserializer::from_str(input).into_iter::<Value>().next();
    input.expect("an input").expect("JSON")["calls"].as_array().expect("calls").clone()
}

/// A tool call of the puppet.
fn call(tool: &str, arguments: &Value) -> Value {
    json!({"tool": tool, "arguments": arguments})
}

/// Writes a Python program into the workspace and runs it.
fn python(program: &str) -> Vec<Value> {
    vec![
        call("fs.write", &json!({"path": "/workspace/attack.py", "content": program})),
        call("cmd.run", &json!({"command": "python3", "args": ["/workspace/attack.py"]})),
    ]
}

/// Defines `attempt(name, action)`, which prints the error's name, or `OPEN` and what came back.
const ATTEMPT: &str = "
import ctypes, errno, os, socket, stat, sys, time
def attempt(name, action):
    try:
        print(name, 'OPEN', action(), flush=True)
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error), flush=True)
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
";

/// What a run left.
struct Run {
    execution: String,
    status: Value,
    /// What each call gave back, in order; empty if the run has no answer.
    results: Vec<String>,
}

impl Run {
    /// Lines that the last command printed to standard output.
    fn lines(&self) -> Vec<String> {
        let last = self.results.last().unwrap_or_else(|| panic!("no result: {}", self.status));
        let printed = last.split_once("stdout:\n").unwrap_or_else(|| panic!("nothing was printed: {last}")).1;
        let printed = printed.split_once("stderr:\n").map_or(printed, |(printed, _)| printed);
        printed.lines().map(str::to_owned).collect()
    }
}

/// Runs `calls` under the agent's manifest to the end.
fn run(node: &Node, agent: &str, calls: &[Value]) -> Run {
    let execution = node.execute(agent, &json!({"calls": calls}).to_string());
    let status = node.wait(&execution);
    let answer = status["final_output"].as_str().unwrap_or("[]");
    let results = serde_json::from_str(answer).unwrap_or_default();
    Run { execution, status, results }
}

/// Runs a Python program after [`ATTEMPT`] and gives what it printed, line by line.
fn attempts(node: &Node, agent: &str, program: &str) -> Vec<String> {
    run(node, agent, &python(&format!("{ATTEMPT}{program}"))).lines()
}

/// Events of the record: bodies of `kind` in the stream `stream`.
fn bodies(node: &Node, stream: &str, kind: &str) -> Vec<Value> {
    let asked = ["audit", "query", "--stream", stream, "--kind", kind, "--limit", "500", "--output", "json"];
    let page = node.run(&asked).ok().json();
    page["items"].as_array().expect("items").iter().map(|event| event["body"].clone()).collect()
}

/// How often `what` is on record at `door` of the execution's sandbox.
fn violations(node: &Node, run: &Run, door: &str, what: &str) -> u64 {
    let stream = format!("execution/{}", run.execution);
    let seen = bodies(node, &stream, "sandbox.violation");
    let matching = seen.iter().filter(|body| body["door"] == door && body["what"] == what);
    matching.map(|body| body["count"].as_u64().expect("a count")).sum()
}

/// How often the run's volume refused an operation for the reason `why`, as recorded.
fn refusals(node: &Node, run: &Run, why: &str) -> u64 {
    let recorded = bodies(node, &volume_of(node, run), "volume.recorded");
    recorded.iter().filter_map(|body| body["refusals"][why].as_u64()).sum()
}

/// The codes of the denials on record for the execution.
fn denials(node: &Node, run: &Run) -> Vec<String> {
    let stream = format!("execution/{}", run.execution);
    let denied = bodies(node, &stream, "action.denied");
    denied.iter().map(|body| body["code"].as_str().expect("a code").to_owned()).collect()
}

/// The volume of an execution.
fn volume_of(node: &Node, run: &Run) -> String {
    let created = bodies_of_kind(node, "volume.created");
    let own = created.iter().find(|(_, body)| body["execution"] == run.execution.as_str());
    own.expect("a volume").0.clone()
}

fn bodies_of_kind(node: &Node, kind: &str) -> Vec<(String, Value)> {
    let asked = ["audit", "query", "--kind", kind, "--limit", "500", "--output", "json"];
    let page = node.run(&asked).ok().json();
    let stream = |event: &Value| event["stream"].as_str().expect("a stream").to_owned();
    page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|event| (stream(event), event["body"].clone()))
        .collect()
}

/// Looks again until there is something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "nothing came");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
