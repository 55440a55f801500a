//! Paths, links and special files: through the file tools, and from inside.

use aegis_e2e::Node;
use serde_json::{Value, json};

use super::{ATTEMPT, bodies, call, denials, puppet, python, refusals, run, until, volume_of};
use crate::manifests::worker;

async fn node() -> Node {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("attacker", ""));
    node
}

/// Every call of a tool that takes a path, with `path` in its place.
fn every_tool(path: &str) -> Vec<Value> {
    vec![
        call("fs.read", &json!({"path": path})),
        call("fs.write", &json!({"path": path, "content": "x"})),
        call("fs.list", &json!({"path": path})),
        call("fs.create_dir", &json!({"path": path})),
        call("fs.delete", &json!({"path": path})),
        call("fs.edit", &json!({"path": path, "old_string": "a", "new_string": "b"})),
        call("fs.multi_edit", &json!({"path": path, "edits": [{"old_string": "a", "new_string": "b"}]})),
        call("fs.grep", &json!({"path": path, "pattern": "root"})),
        call("fs.glob", &json!({"path": path, "pattern": "*"})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_leave_the_volume_are_denied_in_every_tool() {
    let node = node().await;
    let paths = [
        "/workspace/../etc/passwd",
        "/workspace/a/../../etc",
        "/workspace2/x",
        "/workspacex",
        "/etc/shadow",
        "../etc/passwd",
        "/workspace/./../root",
        "//etc/passwd",
    ];
    let calls: Vec<Value> = paths.iter().flat_map(|path| every_tool(path)).collect();
    for (path, chunk) in paths.iter().zip(calls.chunks(9)) {
        let run = run(&node, "attacker", chunk);
        assert_eq!(run.results.len(), 9, "{path}: {}", run.status);
        let codes = denials(&node, &run);
        assert_eq!(codes, vec!["PATH_NOT_ALLOWED"; 9], "{path}: {:#?}", run.results);
        assert!(run.results.iter().all(|text| !text.contains("root:")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_does_not_lead_outside() {
    let node = node().await;
    let calls = [
        call("fs.glob", &json!({"path": "/workspace", "pattern": "../../../tok*"})),
        call("fs.glob", &json!({"path": "/workspace", "pattern": "/etc/*"})),
        call("fs.grep", &json!({"path": "/workspace", "pattern": "root", "glob": "../../../token"})),
        call("fs.grep", &json!({"path": "/workspace", "pattern": "root", "include": "/etc/passwd"})),
        call("cmd.run", &json!({"command": "cat", "args": ["/etc/shadow"], "cwd": "/workspace/../root"})),
        call("cmd.run", &json!({"command": "sh", "args": ["-c", "cat /etc/shadow; cat /proc/1/environ"]})),
    ];
    let run = run(&node, "attacker", &calls);
    assert_eq!(run.results.len(), 6, "{}", run.status);
    for (text, call) in run.results.iter().zip(&calls) {
        let leaked = ["root:x:", "root:*", "passwd:", "/etc/hosts", "AEGIS_CONTROL"];
        assert!(leaked.iter().all(|leak| !text.contains(leak)), "{call}: {text}");
    }
    let token = node.token();
    assert!(!run.results[0].contains("token"), "{}", run.results[0]);
    assert!(run.results.iter().all(|text| !text.contains(&token)), "{:#?}", run.results);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_special_files_are_refused_inside_and_on_record() {
    let node = node().await;
    let program = format!(
        "{ATTEMPT}
os.chdir('/workspace')
open('plain', 'w').write('plain')
attempt('link to /etc', lambda: os.symlink('/etc', 'etc'))
attempt('link up', lambda: os.symlink('../../etc/passwd', 'up'))
attempt('link through', lambda: os.symlink('a/../../etc', 'through'))
attempt('socket', lambda: socket.socket(socket.AF_UNIX).bind('/workspace/socket'))
attempt('fifo', lambda: os.mkfifo('fifo'))
attempt('device', lambda: os.mknod('device', 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
attempt('block device', lambda: os.mknod('block', 0o666 | stat.S_IFBLK, os.makedev(8, 0)))
attempt('hard link', lambda: os.link('plain', 'hard'))
attempt('owner', lambda: os.chown('plain', 0, 0))
attempt('capability', lambda: os.setxattr('plain', 'security.capability', b'\\x01\\x00\\x00\\x02' + bytes(16)))
os.chmod('plain', 0o6755)
print('setuid', oct(os.stat('plain').st_mode & 0o6000))
print(sorted(os.listdir('.')))
"
    );
    let run = run(&node, "attacker", &python(&program));
    let lines = run.lines();
    let (seen, tail) = lines.split_at(10);
    assert!(seen.iter().all(|line| !line.contains("OPEN")), "{seen:#?}");
    assert_eq!(tail, ["setuid 0o0", "['attack.py', 'plain']"]);
    // Devices are refused by the system call filter already, before a front could see them.
    for (what, least) in [("escaping_link", 3), ("special_file", 2), ("hard_link", 1)] {
        assert!(refusals(&node, &run, what) >= least, "{what}: {seen:#?}");
    }
    let recorded = bodies(&node, &volume_of(&node, &run), "volume.recorded");
    let refused: u64 = recorded.iter().filter_map(|body| body["refused"].as_u64()).sum();
    assert!(refused >= 6, "{recorded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planted_in_a_volumes_folder_is_not_followed() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = node().await;
    // Between two commands of one run somebody plants what no front would have made.
    let mut calls = python("print('ready')");
    calls.push(call("cmd.run", &json!({"command": "sleep", "args": ["2"]})));
    let open = format!(
        "{ATTEMPT}
for name in ['etc/shadow', 'passwd', 'fifo', 'socket', 'hard', 'suid']:
    attempt(name, lambda: open('/workspace/' + name).read(20))
"
    );
    calls.push(call("fs.read", &json!({"path": "/workspace/passwd"})));
    calls.push(call("fs.read", &json!({"path": "/workspace/etc/shadow"})));
    calls.push(call("fs.read", &json!({"path": "/workspace/fifo"})));
    calls.extend(python(&open));
    let execution = node.execute("attacker", &json!({"calls": calls}).to_string());
    let folder = until(|| {
        std::fs::read_dir(node.home().join("volumes"))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find_map(find_attack)
    });
    std::os::unix::fs::symlink("/etc", folder.join("etc")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("passwd")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap();
    assert!(made.success());
    let outside = node.file("outside", "secret of the host");
    std::fs::hard_link(&outside, folder.join("hard")).unwrap();
    std::fs::write(folder.join("suid"), "x").unwrap();
    std::fs::set_permissions(folder.join("suid"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    let status = node.wait(&execution);
    let results: Vec<String> = serde_json::from_str(status["final_output"].as_str().unwrap()).unwrap();
    let run = super::Run { execution, status, results };
    for text in &run.results {
        assert!(!text.contains("root:") && !text.contains("secret of the host"), "{text}");
    }
    let lines = run.lines();
    assert!(lines[..5].iter().all(|line| !line.contains("OPEN")), "{lines:#?}");
    let recorded = bodies(&node, &volume_of(&node, &run), "volume.recorded");
    let refused: u64 = recorded.iter().filter_map(|body| body["refused"].as_u64()).sum();
    assert!(refused >= 3, "{recorded:?}");
}

/// The folder that holds the program the run has written, at any depth below `folder`.
fn find_attack(folder: std::path::PathBuf) -> Option<std::path::PathBuf> {
    if folder.join("attack.py").exists() {
        return Some(folder);
    }
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .find_map(|entry| find_attack(entry.path()))
}
