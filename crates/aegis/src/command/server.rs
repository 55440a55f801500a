//! `aegis server …` and `aegis tool …`

mod login;
mod questions;

use aegis_api::{
    CallTool, Client, Server as Shown, ServerDetail, ToolCallEvent, ToolCalled, ToolCalls, printable_line,
    printable_text,
};
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::{Map, Value};

use crate::args::{Add, Global, Server, Tool};
use crate::failure::{Failure, invalid};
use crate::table::table;
use crate::{manifest, output};

pub(super) async fn servers(global: &Global, command: Server) -> Result<(), Failure> {
    match command {
        Server::Add(add) => {
            let (section, file) = section(add)?;
            let added = global.client()?.add_server(section, Some(&file)).await?;
            output::show(global.output, &added, |added| {
                let mut line =
                    format!("Added server {} ({}, {} tools)", added.name, state(added), added.tools);
                if let Some(reason) = &added.reason {
                    line.push_str(&format!("\nreason: {}", printable_line(reason)));
                }
                line
            })
        }
        Server::Remove { server } => {
            global.client()?.remove_server(&server).await?;
            output::text(&format!("Removed server {server}"))
        }
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
            let signed_out = global.client()?.logout_server(&server).await?;
            if let Some(reason) = &signed_out.reason {
                output::note(&format!(
                    "warning: its tokens are destroyed here and not revoked at the authorization server: {}",
                    printable_line(reason)
                ));
            }
            output::show(global.output, &signed_out, |signed_out| {
                let revoked = if signed_out.revoked { ", and its tokens are revoked" } else { "" };
                format!("Signed out of server {server}{revoked}")
            })
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

/// The section that a command line means, and what to call it.
fn section(add: Add) -> Result<(String, String), Failure> {
    if let Some(file) = &add.file {
        return Ok((manifest::read_file(file)?, file.display().to_string()));
    }
    let pairs = |given: &[String]| given.iter().map(|pair| named(pair)).collect::<Result<Map<_, _>, _>>();
    let mut section = Map::new();
    section.insert("name".to_owned(), add.name.into());
    let mut program = add.program.into_iter();
    if let Some(executable) = program.next() {
        section.insert("executable".to_owned(), executable.into());
        section.insert("args".to_owned(), program.collect::<Vec<_>>().into());
    }
    if let Some(url) = add.url {
        section.insert("url".to_owned(), url.into());
    }
    section.insert("env".to_owned(), pairs(&add.env)?.into());
    section.insert("headers".to_owned(), pairs(&add.header)?.into());
    section.insert("folders".to_owned(), add.folder.into());
    let text = serde_json::to_string_pretty(&Value::Object(section)).unwrap_or_default();
    Ok((text, "command line".to_owned()))
}

fn named(pair: &str) -> Result<(String, Value), Failure> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.into())),
        _ => Err(invalid(format!("`{pair}` is not NAME=VALUE"), "write it like `TOKEN=secret:git-token`")),
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
