//! A provider that is a program on this machine.

use std::path::Path;
use std::time::Duration;

use aegis_models::{ProcessSettings, ProcessState, ProviderProcess};

const SERVER: &str = r#"
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        if self.path == "/die": os._exit(3)
        self.wfile.write("|".join(sorted(os.environ)).encode())
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

fn settings(test: &str, folder: &Path) -> Option<ProcessSettings> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIP {test}: python3 is not installed");
        return None;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Some(ProcessSettings {
        provider: "local".to_owned(),
        command: "python3".to_owned(),
        args: vec!["-c".to_owned(), SERVER.to_owned(), port.to_string()],
        ready_url: format!("http://127.0.0.1:{port}/"),
        folder: folder.to_owned(),
        jitter_seed: 1,
    })
}

fn pid(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("provider-local.pid")).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn it_is_started_watched_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let Some(settings) = settings("it_is_started_watched_and_stopped", folder.path()) else { return };
    let url = settings.ready_url.clone();
    let process = ProviderProcess::start(settings).unwrap();
    assert_eq!(process.ready(Duration::from_secs(60)).await, Ok(()));
    let names = reqwest::get(&url).await.unwrap().text().await.unwrap();
    assert!(!names.contains("CARGO"), "{names}");

    let first = pid(folder.path());
    drop(reqwest::get(format!("{url}die")).await);
    tokio::time::timeout(Duration::from_secs(60), async {
        while process.state() != ProcessState::Ready || pid(folder.path()) == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    let second = pid(folder.path());
    assert!(lives(&second) && !lives(&first));
    process.stop().await;
    assert!(!lives(&second) && !folder.path().join("provider-local.pid").exists());
}

#[tokio::test]
async fn what_a_dead_daemon_left_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let Some(settings) = settings("what_a_dead_daemon_left_is_ended_first", folder.path()) else { return };
    let old = ProviderProcess::start(settings.clone()).unwrap();
    assert_eq!(old.ready(Duration::from_secs(60)).await, Ok(()));
    let first = pid(folder.path());
    let new = ProviderProcess::start(settings).unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while lives(&first) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    new.stop().await;
    old.stop().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ProcessSettings {
        provider: "local".to_owned(),
        command: "no-such-program".to_owned(),
        args: Vec::new(),
        ready_url: "http://127.0.0.1:1/".to_owned(),
        folder: folder.path().to_owned(),
        jitter_seed: 1,
    };
    let process = ProviderProcess::start(settings).unwrap();
    let state = process.ready(Duration::from_millis(500)).await.unwrap_err();
    let ProcessState::Failed(reason) = state else { panic!("{state:?}") };
    assert_eq!(reason, "`no-such-program` could not be started: No such file or directory (os error 2)");
    process.stop().await;
}
