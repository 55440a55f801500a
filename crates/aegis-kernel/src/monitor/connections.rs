//! Connections in the record: what is asked for, and what came of it.

use aegis_core::{ConnectionEnd, Intent, LateDenial, Outcome};
use serde_json::json;

use crate::port::{EgressEnd, EgressOutcome, EgressRequest, EgressWay, NewBlob};
use crate::record::Ledger;

/// Host and port for a column of the record, and the whole request.
pub(super) fn named(ledger: &Ledger, request: &EgressRequest) -> (String, Vec<u8>) {
    let asked = match &request.way {
        EgressWay::Tunnel => json!({"host": request.host.to_string(), "port": request.port}),
        EgressWay::Plain { method, path } => {
            json!({"host": request.host.to_string(), "port": request.port, "method": method, "path": path})
        }
    };
    (format!("{}:{}", host(ledger, request), request.port), asked.to_string().into_bytes())
}

/// A host is a name of letters and digits, or an address; still an agent may have put a secret into one.
fn host(ledger: &Ledger, request: &EgressRequest) -> String {
    ledger.scribe.redaction.redactor().redact(&request.host.to_string()).into_owned()
}

pub(super) fn intent(
    ledger: &Ledger,
    request: &EgressRequest,
    rule: &str,
    blobs: &mut Vec<NewBlob>,
) -> Intent {
    let asked = match &request.way {
        EgressWay::Tunnel => None,
        EgressWay::Plain { method, path } => {
            Some(ledger.scribe.blob(json!({"method": method, "path": path}).to_string(), blobs))
        }
    };
    Intent::Connect { host: host(ledger, request), port: request.port, request: asked, rule: rule.to_owned() }
}

pub(super) fn outcome(ledger: &Ledger, ended: EgressOutcome, blobs: &mut Vec<NewBlob>) -> Outcome {
    let (end, denied, detail) = match ended.end {
        EgressEnd::Done => (ConnectionEnd::Done, None, None),
        EgressEnd::Denied(denial) => {
            let late = LateDenial { code: denial.code, rule: denial.rule.clone() };
            (ConnectionEnd::Denied, Some(late), Some(denial.message))
        }
        EgressEnd::Failed(reason) => (ConnectionEnd::Failed, None, Some(reason)),
        EgressEnd::Cut => (ConnectionEnd::Cut, None, None),
        EgressEnd::Limit(which) => (ConnectionEnd::Limit, None, Some(which.to_owned())),
    };
    Outcome::Connection {
        end,
        address: ended.address.map(|address| address.to_string()),
        bytes_sent: ended.bytes_sent,
        bytes_received: ended.bytes_received,
        denied,
        detail: detail.map(|text| ledger.scribe.blob(text, blobs)),
    }
}
