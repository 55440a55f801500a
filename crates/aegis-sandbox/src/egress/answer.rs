//! What the proxy itself says to a program inside.

use aegis_core::Denial;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Most characters of a sentence in the status line, where clients of tunnels show it.
const REASON_CHARACTERS_MAX: usize = 200;

/// The answer to what is not permitted: status 403, the code and the sentence.
pub(super) async fn denied(stream: &mut (impl AsyncWrite + Unpin), denial: &Denial) {
    let sentence = format!("{}; {}", denial.message, denial.remedy);
    write(stream, 403, denial.code.name(), &sentence, &denial.rule).await;
}

/// The answer to a head that is refused as such.
pub(super) async fn malformed(stream: &mut (impl AsyncWrite + Unpin), sentence: &str) {
    write(stream, 400, "BAD_REQUEST", sentence, "egress/request").await;
}

/// The answer when the far side cannot be had.
pub(super) async fn unreachable(stream: &mut (impl AsyncWrite + Unpin), sentence: &str) {
    write(stream, 502, "UPSTREAM_UNREACHABLE", sentence, "egress/connect").await;
}

/// Whoever does not take it in is gone; the end is on record either way.
async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    status: u16,
    code: &'static str,
    sentence: &str,
    rule: &str,
) {
    let body = serde_json::json!({ "code": code, "error": sentence, "rule": rule }).to_string();
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let reason: String = sentence.chars().take(REASON_CHARACTERS_MAX).map(plain).collect();
    let text = format!(
        "HTTP/1.1 {status} {code}: {reason}\r\nContent-Type: application/json\r\nX-Aegis-Code: {code}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
