//! A Git server over https, with a repository in it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// What the server lets in. It looks like no other text.
pub(super) const PASSWORD: &str = "git-canary 4e1f/77+c0";
const PROGRAM: &str = include_str!("server.py");

/// The server; it ends with the test.
pub(super) struct GitServer {
    pub(super) folder: tempfile::TempDir,
    pub(super) port: u16,
    child: Child,
}

fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/git/tls").join(name)
}

/// The authority that has signed the server's certificate.
pub(super) fn authority() -> PathBuf {
    tls("authority.pem")
}

/// Runs git as whoever runs the tests, in `folder`.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl GitServer {
    /// With `site.git`, whose branch `main` holds one commit, and `other.git` beside it; `None` where git or python3 is
    /// missing, which it says.
    pub(super) fn start(test: &str) -> Option<Self> {
        let there = |program: &str| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        if !there("git") || !there("python3") {
            eprintln!("SKIP {test}: git and python3 are needed for a server");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        git(root, &["init", "-q", "--bare", "-b", "main", "site.git"]);
        git(root, &["init", "-q", "-b", "main", "first"]);
        std::fs::write(root.join("first/README.md"), "A site.\n").expect("a file");
        std::fs::create_dir(root.join("first/pages")).expect("a folder");
        std::fs::write(root.join("first/pages/one.md"), "One.\n").expect("a file");
        let first = root.join("first");
        git(&first, &["add", "."]);
        git(&first, &["commit", "-q", "-m", "Begin"]);
        git(&first, &["tag", "-a", "v1", "-m", "First"]);
        git(&first, &["push", "-q", "../site.git", "main", "v1"]);
        let mut child = Command::new("python3")
            .arg("-c")
            .arg(PROGRAM)
            .arg(root)
            .args([tls("certificate.pem"), tls("key.pem")])
            .args([PASSWORD.as_ref(), root.join("requests").as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a port");
        Some(Self { port: line.trim().parse().expect("a port"), folder, child })
    }

    /// Every request so far.
    pub(super) fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("requests")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The requests that sent something to be taken.
    pub(super) fn pushes(&self) -> usize {
        let pushed = |request: &&Value| {
            request["method"] == "POST" && request["path"].to_string().contains("git-receive-pack")
        };
        self.requests().iter().filter(pushed).count()
    }

    /// What a reference of `site.git` names.
    pub(super) fn names(&self, reference: &str) -> Option<String> {
        let listed =
            git(&self.folder.path().join("site.git"), &["for-each-ref", "--format=%(objectname)", reference]);
        (!listed.is_empty()).then_some(listed)
    }

    /// An entry of `spec.git.remotes` for a path of this server.
    pub(super) fn remote(&self, name: &str, path: &str, more: &str) -> String {
        let port = self.port;
        format!(
            "      - {{name: {name}, url: \"https://127.0.0.1:{port}/{path}\", username: agent, \
             credential: \"secret:git/site\", push: [\"agent/*\"], private: [\"127.0.0.1/32:{port}\"]{more}}}\n"
        )
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
