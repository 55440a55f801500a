//! Daemon and sandboxes of a user without rights.

use aegis_e2e::{Node, User};
use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::json;

use crate::manifests::worker;

/// `nobody`: without rights, and with a name, as `fusermount3` wants it.
const NOBODY: u32 = 65_534;
/// A user that no machine knows, as containers are often run.
const NAMELESS: u32 = 54_321;

/// Lets everybody use /dev/fuse, as distributions do, where this machine does not: in a mount namespace alone.
const OPEN_FUSE: &str =
    "mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse";

/// Writes and reads a file through a command, and says what it came to.
fn busy() -> Script {
    Script::new(|seen| match seen.tool_results() {
        0 => Reply::call("fs.write", &json!({"path": "/workspace/a.txt", "content": "from the tool\n"})),
        1 => Reply::call(
            "cmd.run",
            &json!({"command": "sh", "args": ["-c", "cat a.txt; echo inside > b.txt; id -u; ls /proc | grep -c '^[0-9]'"]}),
        ),
        2 => Reply::call("fs.read", &json!({"path": "/workspace/b.txt"})),
        _ => Reply::text(seen.tool_result_texts().collect::<Vec<_>>().join("\n---\n")),
    })
}

/// Why a node of that user cannot be tried here.
fn missing(prepare: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can become another user".to_owned());
    }
    let tried = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{prepare} && setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups bwrap --ro-bind / / --unshare-user --unshare-pid --proc /proc true")])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_deploys_and_runs_an_agent() {
    if let Some(reason) = missing(OPEN_FUSE) {
        eprintln!("SKIP a_user_without_rights_deploys_and_runs_an_agent: {reason}");
        return;
    }
    let user = User { id: NOBODY, prepare: OPEN_FUSE.to_owned() };
    let mut node = Node::with(busy()).user(user).start().await;
    node.deploy(&worker("worker", ""));
    let execution = node.execute("worker", "{}");
    let status = node.wait(&execution);
    assert_eq!(status["status"], "completed", "{status}\n{}", node.daemon_log());
    let answer = status["final_output"].as_str().unwrap();
    assert!(answer.contains("from the tool") && answer.contains("inside"), "{answer}");
    node.run(&["audit", "verify"]).ok();
    // Killed in the middle of nothing: what it left mounted is detached, and it works on.
    node.kill_daemon();
    node.start_daemon();
    let again = node.wait(&node.execute("worker", "{}"));
    assert_eq!(again["status"], "completed", "{again}\n{}", node.daemon_log());
    assert_eq!(node.stop_daemon(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_without_rights_lacks_is_told_with_a_remedy() {
    const NO_FUSE: &str =
        "mount -t tmpfs tmpfs /mnt && mknod -m 600 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse";
    for (id, prepare, lacks) in [(NOBODY, NO_FUSE, "/dev/fuse"), (NAMELESS, OPEN_FUSE, "/etc/passwd")] {
        if let Some(reason) = missing(prepare) {
            eprintln!("SKIP what_a_user_without_rights_lacks_is_told_with_a_remedy: {reason}");
            return;
        }
        let node = Node::with(busy()).user(User { id, prepare: prepare.to_owned() }).start().await;
        let manifest = node.file("agent.yaml", &worker("worker", ""));
        let warned = node.run(&["agent", "deploy", &manifest]).ok();
        assert!(warned.stderr.contains(lacks), "{}", warned.stderr);
        let refused = node.run(&["task", "execute", "worker", "--input", "{}"]);
        assert_ne!(refused.code, 0, "{}", refused.stdout);
        assert!(refused.stderr.contains(lacks), "{}", refused.stderr);
        let status = node.run(&["status", "--output", "json"]).ok().json();
        assert!(status["warnings"].to_string().contains(lacks), "{status}");
    }
}
