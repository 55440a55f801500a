//! Hostile repositories, agents and servers: nothing of theirs is run, read or followed, and the credential goes nowhere.

use serde_json::{Value, json};

use super::server::{GitServer, PASSWORD, git};
use super::{COMMIT, clone, node, push, pusher, shell};
use crate::observe::{can_run, events, follow, tool_results};
use crate::secrets::files_with;

/// Whatever git of its own accord would run or read, and last a line that no git can read.
const HOSTILE: &str = r#"git checkout -q -b agent/draft && echo Two. > two.md && git add . && COMMIT -m Two
cat > .git/config <<'END'
[core]
	repositoryformatversion = 0
	fsmonitor = "sh -c 'kill -9 -1'"
	sshCommand = "sh -c 'kill -9 -1'"
	hooksPath = /workspace/site/.git/hooks
	alternateRefsCommand = "sh -c 'kill -9 -1'"
	pager = "sh -c 'kill -9 -1'"
	gitProxy = "sh -c 'kill -9 -1'"
	worktree = /etc
	attributesFile = /workspace/site/attributes
[include]
	path = /workspace/site/more
[credential]
	helper = "!sh -c 'cat > /workspace/stolen'"
[url "ext::sh -c 'kill -9 -1' "]
	insteadOf = https://
[uploadpack]
	packObjectsHook = "sh -c 'kill -9 -1'"
[filter "evil"]
	clean = "sh -c 'kill -9 -1'"
	smudge = "sh -c 'kill -9 -1'"
	process = "sh -c 'kill -9 -1'"
[diff "evil"]
	textconv = "sh -c 'kill -9 -1'"
[http]
	proxy = http://127.0.0.1:1
	sslVerify = false
	extraHeader = "X-Evil: 1"
[remote "origin"]
	url = "ext::sh -c 'kill -9 -1'"
	promisor = true
	receivepack = "sh -c 'kill -9 -1'"
[extensions]
	partialClone = origin
	worktreeConfig = true
[this no git can read
END
mkdir -p .git/hooks .git/objects/info
for hook in pre-push post-checkout reference-transaction pre-receive update post-index-change fsmonitor-watchman; do
  printf '#!/bin/sh\nkill -9 -1\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook
done
echo '* filter=evil diff=evil' > .git/info/attributes 2>/dev/null || { mkdir .git/info; echo '* filter=evil' > .git/info/attributes; }
printf '/etc\n/proc/1/root\n/run/aegis\n../../../../../../../other/objects\n' > .git/objects/info/alternates
printf 'not an index' > .git/index
ln -s /etc/passwd .git/shallow 2>/dev/null; printf 'garbage' > .git/shallow
mkdir -p .git/refs/replace && printf '%040d\n' 1 > .git/refs/replace/$(cat .git/refs/heads/agent/draft)
head -c 300 /dev/urandom > .git/objects/info/commit-graph; true"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hostile_repository_says_is_neither_run_nor_read() {
    let test = "what_a_hostile_repository_says_is_neither_run_nor_read";
    let Some(server) = GitServer::start(test) else { return };
    let hostile = HOSTILE.replace("COMMIT", COMMIT);
    let calls =
        vec![clone(), shell(&hostile), push("agent/draft"), shell("ls -a /workspace /workspace/site")];
    let node = node(&server.remote("site", "git/site.git", ""), calls).await;
    if !can_run(&node, &pusher(), test) {
        return;
    }
    follow(&node, &pusher()).ok();
    let said = tool_results(&node);
    assert!(said[2].contains("pushed"), "{said:#?}");
    assert!(!said[3].contains("stolen"), "{said:#?}");
    let commit = server.names("refs/heads/agent/draft").expect("it is there");
    let site = server.folder.path().join("site.git");
    assert_eq!(git(&site, &["ls-tree", "--name-only", &commit]), "README.md\npages\ntwo.md");
    git(&site, &["fsck", "--strict"]);
}

/// Branches that may not be pushed, histories that do not follow, and objects that are not sound; one push is good.
fn pushes() -> Vec<(&'static str, Value)> {
    let own = |path: &str, branch: &str| {
        ("git.push", json!({"repository": "site", "path": path, "branch": branch}))
    };
    let modules = "printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = --upload-pack=sh\\n' > .gitmodules";
    vec![
        clone(),
        shell(&format!("git checkout -q -b agent/draft && echo 2 > two && git add . && {COMMIT} -m Two")),
        push("main"),
        push("--force"),
        push("agent/../main"),
        push("agent/*"),
        push("refs/heads/agent/draft"),
        push("agent/draft"),
        // A second history over what is there.
        shell(&format!("git reset -q --hard main && echo 3 > two && git add . && {COMMIT} -m Three")),
        push("agent/draft"),
        // A command on the way to whoever clones it.
        shell(&format!(
            "git checkout -q -b agent/modules main && {modules} && git add . && {COMMIT} -m Modules"
        )),
        push("agent/modules"),
        // An object that is not what its name says.
        shell(&format!(
            "git checkout -q -b agent/forged main && echo good > f && git add f && {COMMIT} -m F && \
             o=.git/objects/$(git rev-parse HEAD:f | sed 's|..|&/|') && e=$(echo evil | git hash-object -w --stdin) && \
             chmod u+w $o && cat .git/objects/$(echo $e | sed 's|..|&/|') > $o"
        )),
        push("agent/forged"),
        // Objects that are not there; a name that names no object; a reference that leads out.
        shell(&format!(
            "git checkout -q -b agent/holes main && echo hole > h && git add h && {COMMIT} -m H && \
             rm -f .git/objects/$(git rev-parse HEAD:h | sed 's|..|&/|') && \
             echo 'ref: refs/heads/main' > .git/refs/heads/agent/symbolic && \
             mkdir -p /workspace/linked /workspace/file && ln -s ../site/.git /workspace/linked/.git && \
             echo 'gitdir: /workspace/site/.git' > /workspace/file/.git"
        )),
        push("agent/holes"),
        push("agent/symbolic"),
        own("/workspace/linked", "agent/draft"),
        own("/workspace/file", "agent/draft"),
        own("/etc", "agent/draft"),
        own("/workspace/../etc", "agent/draft"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_checked_and_only_permitted_branches_move_forward() {
    let test = "what_is_pushed_is_checked_and_only_permitted_branches_move_forward";
    let Some(server) = GitServer::start(test) else { return };
    let node = node(&server.remote("site", "git/site.git", ""), pushes()).await;
    if !can_run(&node, &pusher(), test) {
        return;
    }
    follow(&node, &pusher()).ok();
    let said = tool_results(&node);
    let before = server.names("refs/heads/main");
    for (place, why) in [
        (2, "may not be pushed"),
        (3, "no name of a branch"),
        (4, "no name of a branch"),
        (5, "no name of a branch"),
        (6, "may not be pushed"),
        (9, "does not follow"),
        (11, "git refuses it"),
        (13, "git refuses it"),
        (15, "git refuses it"),
        (16, "names no commit"),
        (17, "no `.git` folder of its own"),
        (18, "no `.git` folder of its own"),
        (19, "/etc"),
        (20, "/etc"),
    ] {
        assert!(said[place].contains(why) && !said[place].contains("pushed "), "{place}: {said:#?}");
    }
    assert!(said[7].contains("pushed"), "{said:#?}");
    assert_eq!(server.pushes(), 1, "{:?}", server.requests());
    assert_eq!(server.names("refs/heads/main"), before);
    let branches =
        git(&server.folder.path().join("site.git"), &["for-each-ref", "--format=%(refname)", "refs/heads"]);
    assert_eq!(branches, "refs/heads/agent/draft\nrefs/heads/main");
    assert!(!events(&node, "action.denied").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_server_is_not_followed_believed_or_waited_for() {
    let test = "a_hostile_server_is_not_followed_believed_or_waited_for";
    let (Some(server), Some(other)) = (GitServer::start(test), GitServer::start(test)) else { return };
    std::fs::write(server.folder.path().join("elsewhere"), format!("https://127.0.0.1:{}", other.port))
        .unwrap();
    let modes = ["redirect", "hang", "huge", "echo", "pack"];
    let limits = ", timeout: 4s, pack_size_max: 1Mi";
    let remotes: String = modes.map(|mode| server.remote(mode, &format!("{mode}/site.git"), limits)).concat();
    // The same server without the rule that opens its address, and under a name that its certificate does not hold.
    let shut = server
        .remote("shut", "git/site.git", "")
        .replace(&format!("127.0.0.1/32:{}", server.port), "10.0.0.0/8");
    let misnamed = server.remote("misnamed", "git/site.git", "").replace("//127.0.0.1:", "//localhost:");
    let misnamed = misnamed.replace("private: [", "private: [\"::1/128\", ");
    let calls = modes
        .iter()
        .copied()
        .chain(["shut", "misnamed"])
        .map(|name| ("git.clone", json!({"repository": name, "path": format!("/workspace/{name}")})));
    let calls: Vec<(&'static str, Value)> =
        calls.chain([("cmd.run", json!({"command": "ls", "args": ["/workspace"]}))]).collect();
    let node = node(&format!("{remotes}{shut}{misnamed}"), calls).await;
    if !can_run(&node, &pusher(), test) {
        return;
    }
    follow(&node, &pusher()).ok();
    let said = tool_results(&node);
    for (place, why) in [
        (0, "sends to another place"),
        (1, "longer than 4 s"),
        (2, "sends more than"),
        (3, "words of the server, not to be trusted"),
        (4, "git refuses it"),
        (5, "403"),
        (6, "certificate"),
    ] {
        assert!(said[place].contains(why), "{place}: {said:#?}");
    }
    assert!(other.requests().is_empty(), "the credential went elsewhere: {:?}", other.requests());
    let echoed = &said[3];
    assert!(echoed.contains("[secret:git/site]") && !echoed.contains(PASSWORD), "{echoed}");
    assert!(!echoed.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{echoed}");
    for mode in modes {
        assert!(!said[7].contains(mode), "nothing is left of what was not cloned: {said:#?}");
    }
    assert_eq!(files_with(node.home(), &[PASSWORD.to_owned()]), Vec::<String>::new());
    let grown = events(&node, "labels.grown").iter().map(ToString::to_string).collect::<String>();
    assert!(grown.contains("source:git.clone"), "{grown}");
}
