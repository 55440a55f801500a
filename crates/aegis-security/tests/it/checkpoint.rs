//! Signed notes and checkpoints against vectors of other implementations, and what an attacker would try.

use aegis_security::checkpoint::{Checkpoint, CheckpointError, verify_consistency, verify_inclusion};
use aegis_security::merkle::{consistency_proof, inclusion_proof, leaf_hash, leaf_lookup, root_of};
use aegis_security::note::{self, NoteError, NoteKey};
use aegis_security::signature::SigningKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The example of the Go package golang.org/x/mod/sumdb/note, from which C2SP signed-note derives.
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn signing_key() -> SigningKey {
    let decoded = STANDARD.decode(SEED).unwrap();
    SigningKey::from_seed(decoded[1..].try_into().unwrap())
}

#[test]
fn notes_are_signed_and_opened_as_by_the_reference() {
    let key: NoteKey = KEY.parse().unwrap();
    let expected = format!("{TEXT}\n{LINE}");
    assert_eq!(note::sign(TEXT, "PeterNeumann", &signing_key()).unwrap(), expected);
    assert_eq!(note::open(&expected, &key).unwrap(), TEXT);
    assert_eq!(key.to_string(), KEY);
    assert_eq!(NoteKey::new("PeterNeumann", signing_key().public_key()).unwrap(), key);
}

#[test]
fn signatures_of_unknown_keys_are_ignored_and_do_not_help() {
    let key: NoteKey = KEY.parse().unwrap();
    let unknown = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
    assert_eq!(note::open(&format!("{TEXT}\n{unknown}{LINE}"), &key).unwrap(), TEXT);
    assert_eq!(
        note::open(&format!("{TEXT}\n{unknown}"), &key),
        Err(NoteError::Unsigned("PeterNeumann".to_owned()))
    );
    // The right name with another id is another key.
    let other = LINE.replace("x08go/", "x08gp/");
    assert!(matches!(note::open(&format!("{TEXT}\n{other}"), &key), Err(NoteError::Unsigned(_))));
}

#[test]
fn a_note_that_was_touched_is_refused() {
    let key: NoteKey = KEY.parse().unwrap();
    let note = format!("{TEXT}\n{LINE}");
    assert!(matches!(note::open(&note.replace("answer", "Answer"), &key), Err(NoteError::Forged(_))));
    assert!(matches!(note::open(&note.replace("/ZJkuBS9", "/ZJkuBS8"), &key), Err(NoteError::Forged(_))));
    // A forged second signature spoils a good first one.
    let forged = LINE.replace("/ZJkuBS9", "/ZJkuBS8");
    assert!(matches!(note::open(&format!("{note}{forged}"), &key), Err(NoteError::Forged(_))));
    for malformed in [
        "",
        "\n",
        "\n\n",
        TEXT,
        &note[..note.len() - 1],
        &format!("{TEXT}\n\n"),
        &note.replace("— ", "- "),
        &note.replace("\n—", "\r\n—"),
        &format!("{note}x"),
        &format!("{note}— PeterNeumann\n"),
        &format!("{note}— PeterNeumann !!!\n"),
        &format!("{note}— Peter+Neumann AAAAAAAA\n"),
        &format!("{TEXT}\n{}", LINE.repeat(101)),
        &format!("{}{note}", "x".repeat(note::NOTE_BYTES_MAX)),
    ] {
        assert!(matches!(note::open(malformed, &key), Err(NoteError::Malformed(_))), "{malformed:?}");
    }
}

#[test]
fn a_text_with_blank_lines_ends_at_the_last_of_them() {
    let key: NoteKey = KEY.parse().unwrap();
    let text = "one\n\ntwo\n";
    let note = note::sign(text, "PeterNeumann", &signing_key()).unwrap();
    assert_eq!(note::open(&note, &key).unwrap(), text);
    assert!(note::sign("no newline", "PeterNeumann", &signing_key()).is_err());
    assert!(note::sign("tab\t\n", "PeterNeumann", &signing_key()).is_err());
    assert!(note::sign("text\n", "Peter Neumann", &signing_key()).is_err());
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    for wrong in [
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Enoch+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcBfQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AQ==",
    ] {
        assert!(wrong.parse::<NoteKey>().is_err(), "{wrong}");
    }
}

/// The example of C2SP tlog-checkpoint.
#[test]
fn the_checkpoint_of_the_specification_is_read() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = Checkpoint::parse(text).unwrap();
    assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
    assert_eq!(checkpoint.size, 20_852_163);
    assert_eq!(
        checkpoint.root.to_string(),
        "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    );
    assert_eq!(checkpoint.text(), text);
    assert_eq!(Checkpoint::parse(&format!("{text}an extension\n")).unwrap(), checkpoint);
}

#[test]
fn texts_that_are_no_checkpoint_are_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for wrong in [
        String::new(),
        "log\n1\n".to_owned(),
        format!("log\n1\n{root}"),
        format!("log\n01\n{root}\n"),
        format!("log\n+1\n{root}\n"),
        format!("log\n-1\n{root}\n"),
        format!("log\n18446744073709551616\n{root}\n"),
        format!("log\n9223372036854775807\n{root}\n"),
        format!("\n1\n{root}\n"),
        format!("log\n1\n{root}\n\nextension\n"),
        "log\n1\nCsUYapGGPo4=\n".to_owned(),
        "log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n".to_owned(),
    ] {
        assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_export_is_checked_offline_with_a_public_key_alone() {
    let signer = signing_key();
    let key = NoteKey::new("example.org/aegis", signer.public_key()).unwrap();
    let entries: Vec<Vec<u8>> = (0..7u8).map(|number| vec![number; 3]).collect();
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let head = |origin: &str, size: usize| {
        Checkpoint { origin: origin.to_owned(), size: size as u64, root: root_of(&leaves[..size]) }
            .sign(&signer)
            .unwrap()
    };
    let (old, new) = (head("example.org/aegis", 4), head("example.org/aegis", 7));

    let inclusion = inclusion_proof(5, 7, leaf_lookup(&leaves)).unwrap();
    assert_eq!(verify_inclusion(&entries[5], 5, &inclusion, &new, &key).unwrap().size, 7);
    assert!(matches!(
        verify_inclusion(&entries[4], 5, &inclusion, &new, &key),
        Err(CheckpointError::Proof(_))
    ));
    assert!(verify_inclusion(&entries[5], 5, &inclusion, &old, &key).is_err());

    let consistency = consistency_proof(4, 7, leaf_lookup(&leaves)).unwrap();
    let (from, to) = verify_consistency(&old, &new, &consistency, &key).unwrap();
    assert_eq!((from.size, to.size), (4, 7));
    assert!(verify_consistency(&new, &old, &consistency, &key).is_err());

    let other_log = head("example.org/other", 7);
    let other_key = NoteKey::new("example.org/other", signer.public_key()).unwrap();
    assert!(verify_inclusion(&entries[5], 5, &inclusion, &other_log, &key).is_err());
    assert!(verify_inclusion(&entries[5], 5, &inclusion, &other_log, &other_key).is_ok());
    // Signed by the key's name, yet about another log.
    let renamed = note::sign(&other_log[..other_log.find("\n\n").unwrap() + 1], "example.org/aegis", &signer);
    assert!(matches!(
        verify_inclusion(&entries[5], 5, &inclusion, &renamed.unwrap(), &key),
        Err(CheckpointError::Origin { .. })
    ));
}
