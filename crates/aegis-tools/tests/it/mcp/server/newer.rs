//! The same in revision 2026-07-28: it asks by its answer, and says in the end what came back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::{given, note, question, tool};

/// Answers each request for itself.
pub(super) async fn serve(commands: DuplexStream, mut answers: DuplexStream, heard: Arc<Mutex<Vec<Value>>>) {
    let mut lines = BufReader::new(commands).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message = note(&line, &heard);
        let Some(id) = message.get("id") else { continue };
        // Longer than a timer takes to fire that has no time left.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut answer = json!({"jsonrpc": "2.0", "id": id});
        match answered(&message) {
            Some(result) => answer["result"] = result,
            None => answer["error"] = json!({"code": -32601, "message": "no such method"}),
        }
        if answers.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answered(message: &Value) -> Option<Value> {
    let method = message["method"].as_str()?;
    let mut result = match method {
        "server/discover" => json!({"supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "hostile", "version": "1"}}}),
        "tools/list" => json!({"tools": [tool("ask", "asks")]}),
        "prompts/list" => json!({"prompts": [{"name": "elicit"}, {"name": "feigned"}]}),
        "prompts/get" if message["params"]["name"] == "feigned" => {
            json!({"resultType": "input_required", "messages": []})
        }
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "tools/call" | "prompts/get" | "resources/read" => asked_first(method, message),
        _ => return None,
    };
    if result.get("resultType").is_none() {
        result["resultType"] = "complete".into();
        if !matches!(method, "tools/call" | "prompts/get") {
            result["ttlMs"] = 0.into();
            result["cacheScope"] = "private".into();
        }
    }
    Some(result)
}

/// Asks in two rounds, and then says with what it was called.
fn asked_first(method: &str, message: &Value) -> Value {
    let params = &message["params"];
    let round = match params["requestState"].as_str() {
        None => 1,
        Some("round-1") => 2,
        Some(_) => {
            let words = json!({"state": params["requestState"], "answers": params["inputResponses"]});
            return given(method, message, &words.to_string());
        }
    };
    let (_, question) = question("elicit");
    let question = json!({"method": question["method"], "params": question["params"]});
    json!({"resultType": "input_required", "inputRequests": {"pin": question},
           "requestState": format!("round-{round}")})
}
