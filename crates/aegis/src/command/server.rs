//! `aegis server …` and `aegis tool …`

mod login;
mod questions;

use aegis_api::{
    CallTool, Client, Server as Shown, ServerDetail, ToolCallEvent, ToolCalled, ToolCalls, printable_line,
    printable_text,
};
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::Value;

use crate::args::{Global, Server, Tool};
use crate::failure::Failure;
use crate::output;
use crate::table::table;

pub(super) async fn servers(global: &Global, command: Server) -> Result<(), Failure> {
    match command {
        Server::Add(_) => Err(Diagnosis::capability_missing(
            "`aegis server add` is not part of this version",
            "add the server to `spec.mcp_servers` of the node's configuration, and start the node again",
        )
        .into()),
        Server::List => {
            let page = global.client()?.servers().await?;
            output::show(global.output, &page, |page| {
                table(&["NAME", "STATE", "TOOLS", "PROTOCOL", "RESTARTS"], page.items.iter().map(row))
            })
        }
        Server::Show { server } => {
            let detail = global.client()?.server(&server).await?;
            output::show(global.output, &detail, words)
        }
        Server::Accept { server, digest } => {
            let accepted = global.client()?.accept_server(&server, &digest).await?;
            output::show(global.output, &accepted, |accepted| {
                format!("Accepted server {} ({} tools)", accepted.name, accepted.tools)
            })
        }
        Server::Login { server, callback_port } => login::login(global, &server, callback_port).await,
        Server::Logout { server } => {
            global.client()?.logout_server(&server).await?;
            output::text(&format!("Signed out of server {server}"))
        }
        Server::Logs { server } => {
            let page = global.client()?.server_logs(&server).await?;
            output::show(global.output, &page, |page| {
                let lines =
                    page.items.iter().map(|line| format!("{} {}", line.at, printable_line(&line.text)));
                lines.collect::<Vec<_>>().join("\n")
            })
        }
    }
}

pub(super) async fn tools(global: &Global, command: Tool) -> Result<(), Failure> {
    match command {
        Tool::Call { tool, agent, arguments, idempotency_key, accept_defaults } => {
            let arguments = super::task::json_argument("--arguments", &arguments)?;
            let call = CallTool { agent, arguments, questions: true };
            let client = global.client()?;
            let calls = client.call_tool(&tool, &call, idempotency_key.as_deref()).await?;
            let called = answering(&client, calls, accept_defaults).await?;
            output::show(global.output, &called, |called| content(&called.result))?;
            if called.result.get("isError").and_then(Value::as_bool) == Some(true) {
                return Err(
                    Diagnosis::new(ErrorCode::RunFailed, format!("`{tool}` says that it failed")).into()
                );
            }
            Ok(())
        }
        Tool::List => {
            let page = global.client()?.tools().await?;
            output::show(global.output, &page, |page| {
                let rows = page.items.iter().map(|tool| {
                    let first = tool.description.lines().next().unwrap_or_default();
                    vec![
                        printable_line(&tool.name).to_string(),
                        tool.server.clone().unwrap_or_default(),
                        tool.governed.join(" "),
                        printable_line(first).chars().take(DESCRIPTION_CHARS_MAX).collect(),
                    ]
                });
                table(&["NAME", "SERVER", "GOVERNED", "DESCRIPTION"], rows)
            })
        }
    }
}

/// What comes of a call, whose server's questions are answered meanwhile.
async fn answering(
    client: &Client,
    mut calls: ToolCalls,
    accept_defaults: bool,
) -> Result<ToolCalled, Failure> {
    loop {
        match calls.next().await? {
            ToolCallEvent::Called(called) => return Ok(called),
            ToolCallEvent::Asked(asked) => {
                // Asked at the terminal, a person may be slow: the call is awaited meanwhile.
                let question = asked.clone();
                let answer =
                    tokio::task::spawn_blocking(move || questions::answer(&question, accept_defaults));
                let answer = answer.await.map_err(|error| Diagnosis::internal(error.to_string()))?;
                match client.answer_question(&asked, answer).await {
                    // It does not wait any more: what came of the call says why.
                    Err(error) if error.diagnosis.code == ErrorCode::NotFound => {}
                    answered => answered?,
                }
            }
        }
    }
}

/// A result in words: its texts, and what else it has by its kind; a list as it is.
fn content(result: &Value) -> String {
    let list = |name: &str| result.get(name).and_then(Value::as_array);
    if let Some(blocks) = list("content").or_else(|| list("contents")) {
        return blocks.iter().map(block).collect::<Vec<_>>().join("\n");
    }
    if let Some(messages) = list("messages") {
        let message = |message: &Value| {
            let role = message.get("role").and_then(Value::as_str).unwrap_or("somebody");
            let content = message.get("content").map(block).unwrap_or_default();
            format!("{}: {content}", printable_line(role))
        };
        return messages.iter().map(message).collect::<Vec<_>>().join("\n");
    }
    printable_text(&serde_json::to_string_pretty(result).unwrap_or_default()).into_owned()
}

fn block(block: &Value) -> String {
    let text = |of: &Value| Some(printable_text(of.get("text")?.as_str()?).into_owned());
    let text = text(block).or_else(|| text(block.get("resource")?));
    text.unwrap_or_else(|| {
        let named = ["type", "mimeType"].iter().find_map(|name| block.get(*name)?.as_str());
        format!("({} is shown with --output json)", printable_line(named.unwrap_or("content")))
    })
}

/// Most of a description in a list.
const DESCRIPTION_CHARS_MAX: usize = 72;

fn state(server: &Shown) -> String {
    if server.held { format!("held, {}", server.state.name()) } else { server.state.name().to_owned() }
}

fn row(server: &Shown) -> Vec<String> {
    vec![
        server.name.clone(),
        state(server),
        server.tools.to_string(),
        server.protocol.clone().unwrap_or_default(),
        server.restarts.to_string(),
    ]
}

fn words(detail: &ServerDetail) -> String {
    let server = &detail.server;
    let mut lines = vec![format!("{}: {}", server.name, state(server))];
    if let Some(reason) = &server.reason {
        lines.push(format!("reason: {}", printable_line(reason)));
    }
    if let Some(digest) = &server.accepted {
        lines.push(format!("accepted: {digest}"));
    }
    for (list, kind) in [("tools", ""), ("prompts", "prompt "), ("templates", "resources ")] {
        let listed = detail.description.get(list).and_then(Value::as_array);
        for name in listed.into_iter().flatten().filter_map(|item| item.get("name")?.as_str()) {
            lines.push(format!("  {kind}{}", printable_line(name)));
        }
    }
    if let Some(digest) = &server.shown {
        lines.push(format!("shows now: {digest}"));
        let changes = serde_json::to_string_pretty(&detail.changes).unwrap_or_default();
        lines.push(printable_text(&changes).into_owned());
        lines.push(format!(
            "Its tools refuse until you accept it: aegis server accept {} {digest}",
            server.name
        ));
    }
    lines.join("\n")
}
