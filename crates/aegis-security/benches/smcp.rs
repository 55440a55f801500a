//! What signing and checking an envelope costs, against bare Ed25519 in the same run.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and ends on the first failure"
)]

use std::hint::black_box;
use std::time::Instant;

use aegis_core::Timestamp;
use aegis_security::signature::{self, SigningKey};
use aegis_security::smcp::checks::{self, Recorded};
use aegis_security::smcp::{Grant, KernelCall, KernelSigner, KeyRing};
use serde_json::json;

const ROUNDS: usize = 5_000;

fn main() {
    let now = Timestamp::from_micros(1_795_269_600_000_000);
    let keys = KeyRing::new("node", SigningKey::from_seed(&[1; 32]), []).unwrap();
    let grant = Grant {
        subject: "0192f0c1-0000-7000-8000-000000000002".to_owned(),
        scope: "default".to_owned(),
        workload: "0192f0c1-0000-7000-8000-000000000001/1".to_owned(),
        session: "0192f0c1-0000-7000-8000-00000000000a".to_owned(),
        seconds: 3600,
    };
    let signer = KernelSigner::new([2; 32].into(), &keys, &grant, now).unwrap();
    let arguments = json!({ "path": "/workspace/notes.txt", "content": "a".repeat(200) });
    let call =
        KernelCall { request_id: "action-1", model_call: "call_1", tool: "fs.write", arguments: &arguments };
    let envelope = signer.sign(&call, now).unwrap();
    let text = envelope.to_json().to_string().into_bytes();
    let message = envelope.signed_bytes().unwrap();
    let key = SigningKey::from_seed(&[3; 32]);
    let (public, signed) = (key.public_key(), key.sign(&message));
    let session = signer.session();

    let bare_sign = median(|| {
        black_box(key.sign(black_box(&message)));
    });
    let sign = median(|| drop(black_box(signer.sign(black_box(&call), now).unwrap())));
    let bare_verify = median(|| {
        signature::verify(&public, black_box(&message), &signed).unwrap();
        signature::verify(&public, black_box(&message), &signed).unwrap();
    });
    let check = |envelope| {
        let authenticated = checks::authenticate(envelope, &keys, Some(&grant.workload), now).unwrap();
        let verified = checks::verify(authenticated, Some(&session), now).unwrap();
        drop(black_box(checks::admit(verified, Recorded::New).unwrap()));
    };
    let from_text = median(|| check(checks::parse(black_box(&text)).unwrap()));
    let in_process = median(|| check(black_box(envelope.clone())));

    println!("envelope of {} bytes, {ROUNDS} rounds, medians", text.len());
    println!("one Ed25519 signature          {bare_sign:7.1} µs");
    println!("sign a model's call            {sign:7.1} µs   {:.2}×", sign / bare_sign);
    println!("two Ed25519 verifications      {bare_verify:7.1} µs");
    println!("all checks, from its text      {from_text:7.1} µs   {:.2}×", from_text / bare_verify);
    println!("all checks, made in process    {in_process:7.1} µs   {:.2}×", in_process / bare_verify);
}

/// Microseconds.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}
