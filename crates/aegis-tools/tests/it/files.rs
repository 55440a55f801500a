//! What models, and attackers, ask of the file tools.

use std::sync::Arc;

use aegis_core::limits::TOOL_RESULT_BYTES_MAX;
use aegis_core::{DenialCode, ExecutionId, Tenant, ToolResult, VolumeId};
use aegis_kernel::port::{
    DirectoryEntry, FileMeta, FileRecords, Files, Grant, PathRules, ToolContext, ToolError, ToolHost, Tree,
    VolumeError, Workspace,
};
use aegis_testkit::conformance::tool_host::{MemoryFiles, call, keeps_its_promises, speaks_plainly};
use aegis_tools::FileTools;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Bench {
    tools: FileTools,
    context: ToolContext,
    files: Arc<MemoryFiles>,
}

fn volume(mount_path: &str, read: &[&str], write: &[&str]) -> Arc<MemoryFiles> {
    let owned = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    Arc::new(
        MemoryFiles::new(Grant {
            volume: VolumeId::from_uuid(Uuid::nil()),
            execution: ExecutionId::from_uuid(Uuid::nil()),
            mount_path: mount_path.to_owned(),
            read_only: false,
            rules: PathRules { read: owned(read), write: owned(write) },
            size_limit: 64 << 20,
            uid: 1000,
            mount: false,
        })
        .unwrap(),
    )
}

impl Bench {
    fn on(volumes: Vec<Arc<MemoryFiles>>) -> Self {
        let files = Arc::clone(&volumes[0]);
        let volumes = volumes.into_iter().map(|files| -> Arc<dyn Files> { files }).collect();
        let workspace = Arc::new(Workspace::new(volumes));
        let execution = ExecutionId::from_uuid(Uuid::nil());
        Self {
            tools: FileTools::new(),
            context: ToolContext {
                execution,
                workspace,
                listener: None,
                way_out: None,
                tenant: Tenant::default_tenant(),
                record: None,
            },
            files,
        }
    }
    fn new() -> Self {
        Self::on(vec![volume("/workspace", &[], &["/workspace"])])
    }
    async fn ask(&self, tool: &str, arguments: Value) -> Result<ToolResult, ToolError> {
        let answer = self.tools.call(&self.context, &call(tool, arguments), &CancellationToken::new()).await;
        if let Ok(result) = &answer {
            assert!(result.content.len() <= TOOL_RESULT_BYTES_MAX, "{} bytes", result.content.len());
        }
        answer
    }
    async fn ok(&self, tool: &str, arguments: Value) -> ToolResult {
        let result = self.ask(tool, arguments).await.unwrap();
        assert!(!result.is_error, "{}", result.content);
        result
    }
    /// What the model is told went wrong.
    async fn told(&self, tool: &str, arguments: Value) -> String {
        let result = self.ask(tool, arguments).await.unwrap();
        assert!(result.is_error, "{}", result.content);
        result.content
    }
    async fn denied(&self, tool: &str, arguments: Value) -> DenialCode {
        match self.ask(tool, arguments).await {
            Err(ToolError::Denied(denial)) => {
                assert!(!denial.remedy.is_empty());
                denial.code
            }
            other => panic!("{other:?}"),
        }
    }
    fn text(&self, path: &str) -> String {
        String::from_utf8(self.files.content(path).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn the_host_keeps_its_promises() {
    let bench = Bench::new();
    keeps_its_promises(&bench.tools, &bench.context).await;
    speaks_plainly(&bench.tools);
    let names: Vec<&str> = bench.tools.tools().iter().map(|tool| tool.schema.name.as_str()).collect();
    let expected = [
        "fs.read",
        "fs.write",
        "fs.list",
        "fs.create_dir",
        "fs.delete",
        "fs.edit",
        "fs.multi_edit",
        "fs.grep",
        "fs.glob",
    ];
    assert_eq!(names, expected);
    let not_idempotent: Vec<&str> = bench
        .tools
        .tools()
        .iter()
        .filter(|tool| !tool.idempotent)
        .map(|tool| tool.schema.name.as_str())
        .collect();
    assert_eq!(not_idempotent, ["fs.edit", "fs.multi_edit"]);
}

#[tokio::test]
async fn what_is_written_is_read() {
    let bench = Bench::new();
    let text = "one\r\ntwo\n\nfour é";
    let written = bench.ok("fs.write", json!({"path": "a/b.txt", "content": text})).await;
    assert_eq!(
        (written.size, written.content.as_str()),
        (Some(17), "wrote 17 bytes to `/workspace/a/b.txt`")
    );
    for path in ["/workspace/a/b.txt", "a/b.txt", "./a/../a//b.txt"] {
        let read = bench.ok("fs.read", json!({"path": path})).await;
        assert_eq!((read.content.as_str(), read.size), (text, Some(17)));
    }
    bench.ok("fs.write", json!({"path": "empty", "content": ""})).await;
    assert_eq!(bench.ok("fs.read", json!({"path": "empty"})).await.content, "[the file is empty]\n");
}

#[tokio::test]
async fn long_files_are_read_in_parts() {
    let bench = Bench::new();
    let lines: String = (1..=4500).map(|number| format!("line {number}\n")).collect();
    bench.files.put("/workspace/long", lines.as_bytes());
    let first = bench.ok("fs.read", json!({"path": "long"})).await.content;
    assert!(first.starts_with("line 1\n"));
    assert!(first.ends_with("line 2000\n[lines 1 to 2000; the file goes on: read on with offset 2001]\n"));
    let last = bench.ok("fs.read", json!({"path": "long", "offset": 4499, "limit": 2})).await.content;
    assert_eq!(last, "line 4499\nline 4500\n");
    let beyond = bench.told("fs.read", json!({"path": "long", "offset": 4501})).await;
    assert!(beyond.contains("4500 lines"), "{beyond}");
    bench.files.put("/workspace/no-newline", b"1\n2");
    assert_eq!(bench.ok("fs.read", json!({"path": "no-newline", "offset": 2})).await.content, "2");
    let beyond = bench.told("fs.read", json!({"path": "no-newline", "offset": 3})).await;
    assert!(beyond.contains("2 lines"), "{beyond}");
}

#[tokio::test]
async fn large_and_binary_files_are_cut_and_marked() {
    let bench = Bench::new();
    bench.files.put("/workspace/one-line", "é".repeat(400_000).as_bytes());
    let read = bench.ok("fs.read", json!({"path": "one-line"})).await;
    assert!(read.content.contains("line 1 is longer than fits") && !read.content.contains('\u{fffd}'));
    bench.files.put("/workspace/binary", &[0xff; 300_000]);
    let read = bench.ok("fs.read", json!({"path": "binary"})).await;
    assert!(read.content.ends_with("[the file is not UTF-8 text; what cannot be shown is replaced]\n"));
    let wide: String = (0..3000).map(|number| format!("{number} {}\n", "x".repeat(200))).collect();
    bench.files.put("/workspace/wide", wide.as_bytes());
    let read = bench.ok("fs.read", json!({"path": "wide"})).await;
    assert!(read.content.contains("read on with offset 12"), "{}", &read.content[read.content.len() - 80..]);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let bench = Bench::new();
    bench.ok("fs.create_dir", json!({"path": "folder/below"})).await;
    for (tool, arguments, told) in [
        ("fs.read", json!({"path": "missing"}), "no file or directory `/workspace/missing`"),
        ("fs.read", json!({"path": "folder"}), "is a directory"),
        ("fs.write", json!({"path": "folder", "content": ""}), "is a directory"),
        ("fs.list", json!({"path": "missing"}), "no file or directory"),
        ("fs.delete", json!({"path": "missing"}), "no file or directory"),
        ("fs.delete", json!({"path": "folder"}), "content"),
        ("fs.delete", json!({"path": "/workspace", "recursive": true}), "holds a volume"),
        ("fs.edit", json!({"path": "missing", "old_string": "a", "new_string": "b"}), "no file or directory"),
        ("fs.grep", json!({"pattern": "("}), "cannot be used"),
        ("fs.grep", json!({"pattern": "(a{1000}){1000}"}), "cannot be used"),
        ("fs.grep", json!({"pattern": "(?=a)"}), "cannot be used"),
        ("fs.glob", json!({"pattern": "../*"}), "must not hold `..`"),
        ("fs.glob", json!({"pattern": "/etc/*"}), "does not lie below"),
        ("fs.write", json!({"path": "big", "content": "x".repeat(65 << 20)}), "limit"),
    ] {
        let message = bench.told(tool, arguments).await;
        assert!(message.contains(told), "{tool}: {message}");
    }
    assert!(matches!(bench.ask("fs.read", json!({"path": 1})).await, Err(ToolError::Arguments(_))));
    assert!(matches!(
        bench.ask("fs.read", json!({"path": "a", "offset": 0})).await,
        Err(ToolError::Arguments(_))
    ));
}

#[tokio::test]
async fn no_path_leads_out_of_the_volumes() {
    let bench = Bench::new();
    for path in [
        "/etc/passwd",
        "../etc/passwd",
        "/workspace/../etc",
        "/workspace2/a",
        "",
        "a\0b",
        "/proc/self/environ",
    ] {
        for (tool, arguments) in [
            ("fs.read", json!({"path": path})),
            ("fs.write", json!({"path": path, "content": "x"})),
            ("fs.list", json!({"path": path})),
            ("fs.create_dir", json!({"path": path})),
            ("fs.delete", json!({"path": path, "recursive": true})),
            ("fs.edit", json!({"path": path, "old_string": "a", "new_string": "b"})),
            ("fs.multi_edit", json!({"path": path, "edits": [{"old_string": "a", "new_string": "b"}]})),
            ("fs.grep", json!({"pattern": ".", "path": path})),
            ("fs.glob", json!({"pattern": "**", "path": path})),
        ] {
            assert_eq!(bench.denied(tool, arguments).await, DenialCode::PathNotAllowed, "{tool} {path:?}");
        }
    }
    let without_volumes = Bench {
        context: ToolContext { workspace: Arc::new(Workspace::default()), ..bench.context.clone() },
        ..bench
    };
    let answer = without_volumes.ask("fs.read", json!({"path": "a"})).await;
    assert!(matches!(answer, Err(ToolError::Denied(denial)) if denial.remedy.contains("volumes[]")));
}

#[tokio::test]
async fn rules_of_the_grant_hold_in_every_tool() {
    let rules = volume("/workspace", &["/workspace/src", "/workspace/docs/*.md"], &["/workspace/out"]);
    let bench = Bench::on(vec![rules]);
    for path in ["src/a.rs", "docs/a.md", "docs/a.txt", "secret/key", "out/x"] {
        bench.files.put(&format!("/workspace/{path}"), b"needle\n");
    }
    bench.ok("fs.read", json!({"path": "src/a.rs"})).await;
    for (tool, arguments) in [
        ("fs.read", json!({"path": "secret/key"})),
        ("fs.read", json!({"path": "docs/a.txt"})),
        ("fs.list", json!({"path": "secret"})),
        ("fs.write", json!({"path": "src/a.rs", "content": ""})),
        ("fs.delete", json!({"path": "src/a.rs"})),
        ("fs.edit", json!({"path": "src/a.rs", "old_string": "needle", "new_string": "x"})),
        ("fs.create_dir", json!({"path": "secret/new"})),
    ] {
        assert_eq!(
            bench.denied(tool, arguments.clone()).await,
            DenialCode::PathNotAllowed,
            "{tool} {arguments}"
        );
    }
    assert_eq!(bench.text("/workspace/src/a.rs"), "needle\n");
    let found = bench.ok("fs.grep", json!({"pattern": "needle"})).await.content;
    let expected = "/workspace/docs/a.md:1:needle\n/workspace/out/x:1:needle\n/workspace/src/a.rs:1:needle\n";
    assert_eq!(found, expected);
    let names = bench.ok("fs.glob", json!({"pattern": "**"})).await.content;
    assert_eq!(names, "/workspace/docs/a.md\n/workspace/out/x\n/workspace/src/a.rs\n");
    let listed = bench.ok("fs.list", json!({"recursive": true})).await.content;
    assert!(!listed.contains("secret") && !listed.contains("a.txt"), "{listed}");
}

#[tokio::test]
async fn folders_are_listed_in_order() {
    let bench = Bench::on(vec![
        volume("/workspace", &[], &["/workspace"]),
        volume("/workspace/data", &["/workspace/data"], &[]),
    ]);
    assert_eq!(
        bench.ok("fs.list", json!({"path": "/workspace/data"})).await.content,
        "[the directory is empty]\n"
    );
    bench.files.put("/workspace/b.txt", b"12345");
    bench.files.put("/workspace/a/x", b"");
    bench.files.put_link("/workspace/link");
    let flat = bench.ok("fs.list", json!({})).await.content;
    assert_eq!(flat, "a/\nb.txt (5 bytes)\ndata/\nlink (symbolic link)\n");
    let deep = bench.ok("fs.list", json!({"recursive": true})).await.content;
    assert_eq!(deep, "a/\na/x (0 bytes)\nb.txt (5 bytes)\ndata/\nlink (symbolic link)\n");
    assert_eq!(bench.ok("fs.list", json!({"path": "b.txt"})).await.content, "/workspace/b.txt (5 bytes)\n");
    for number in 0..2500 {
        bench.files.put(&format!("/workspace/many/{number:04}"), b"");
    }
    let many = bench.ok("fs.list", json!({"path": "many"})).await.content;
    assert_eq!(many.lines().count(), 2001);
    assert!(many.ends_with("[there are more entries; list a directory below]\n"));
}

#[tokio::test]
async fn edits_are_exact() {
    let bench = Bench::new();
    bench.files.put("/workspace/a", b"one two two\n");
    let twice = json!({"path": "a", "old_string": "two", "new_string": "2"});
    assert!(bench.told("fs.edit", twice).await.contains("occurs 2 times"));
    bench.ok("fs.edit", json!({"path": "a", "old_string": "one two", "new_string": "1 two"})).await;
    let all = json!({"path": "a", "old_string": "two", "new_string": "2", "replace_all": true});
    assert_eq!(bench.ok("fs.edit", all).await.content, "replaced 2 occurrences in `/workspace/a`");
    assert_eq!(bench.text("/workspace/a"), "1 2 2\n");
    bench.files.put("/workspace/binary", b"\xff");
    let binary = json!({"path": "binary", "old_string": "a", "new_string": "b"});
    assert!(bench.told("fs.edit", binary).await.contains("not UTF-8"));
}

#[tokio::test]
async fn several_edits_are_made_all_or_none() {
    let bench = Bench::new();
    bench.files.put("/workspace/a", b"one\ntwo\n");
    let edit = |old: &str, new: &str| json!({"old_string": old, "new_string": new});
    let broken = json!({"path": "a", "edits": [edit("one", "1"), edit("three", "3")]});
    let told = bench.told("fs.multi_edit", broken).await;
    assert!(told.contains("was not changed") && told.contains("edit 2 of 2"), "{told}");
    assert_eq!(bench.text("/workspace/a"), "one\ntwo\n");
    // Each edit sees what the one before it left.
    let chained = json!({"path": "a", "edits": [edit("one", "1"), edit("1\ntwo", "12")]});
    assert_eq!(bench.ok("fs.multi_edit", chained).await.size, Some(3));
    assert_eq!(bench.text("/workspace/a"), "12\n");
    assert!(bench.told("fs.multi_edit", json!({"path": "a", "edits": []})).await.contains("1 to 100"));
}

#[tokio::test]
async fn searching_finds_lines_and_names() {
    let bench = Bench::new();
    bench.files.put("/workspace/src/a.py", b"import os\r\ndef f():\n    pass\n");
    bench.files.put("/workspace/src/deep/b.py", b"def g(): pass");
    bench.files.put("/workspace/README.md", b"def not python\n");
    bench.files.put("/workspace/binary", b"def \0 binary");
    bench.files.put("/workspace/huge", &vec![b'd'; 17 << 20]);
    bench.files.put_link("/workspace/link.py");
    let grep = |arguments: Value| bench.ok("fs.grep", arguments);
    let found = grep(json!({"pattern": "^def", "glob": "*.py"})).await.content;
    assert_eq!(found, "/workspace/src/a.py:2:def f():\n/workspace/src/deep/b.py:1:def g(): pass\n");
    let found = grep(json!({"pattern": "^def", "path": "src", "glob": "deep/*.py"})).await.content;
    assert_eq!(found, "/workspace/src/deep/b.py:1:def g(): pass\n");
    assert_eq!(
        grep(json!({"pattern": "os$", "path": "src/a.py"})).await.content,
        "/workspace/src/a.py:1:import os\n"
    );
    let found = grep(json!({"pattern": "def", "max_results": 1})).await.content;
    assert_eq!(found.lines().count(), 2);
    assert!(found.contains("there may be more matches"));
    let none = grep(json!({"pattern": "nowhere"})).await.content;
    assert!(none.contains("files searched: 3; 2 not searched"), "{none}");

    let glob = |arguments: Value| bench.ok("fs.glob", arguments);
    assert_eq!(glob(json!({"pattern": "**/*.py", "path": "src"})).await.content.lines().count(), 2);
    assert_eq!(glob(json!({"pattern": "*.md"})).await.content, "/workspace/README.md\n");
    assert_eq!(glob(json!({"pattern": "/workspace/src/*.py"})).await.content, "/workspace/src/a.py\n");
    assert!(glob(json!({"pattern": "*.rs"})).await.content.contains("no file below"));
}

#[tokio::test]
async fn expressions_that_ruin_others_are_linear_here() {
    let bench = Bench::new();
    bench.files.put("/workspace/a", "a".repeat(1 << 20).as_bytes());
    bench.ok("fs.grep", json!({"pattern": "(a+)+$b"})).await;
    bench.ok("fs.grep", json!({"pattern": "(a|aa)*c"})).await;
}

/// A volume whose reads hang until they are let go, as on a file system that does not answer.
struct HangingFiles {
    inner: Arc<MemoryFiles>,
    gate: tokio::sync::Mutex<()>,
}

impl Files for HangingFiles {
    fn grant(&self) -> &Grant {
        self.inner.grant()
    }
    fn mount_point(&self) -> Option<std::path::PathBuf> {
        None
    }
    fn stat(&self, path: &str) -> Result<FileMeta, VolumeError> {
        self.inner.stat(path)
    }
    fn read(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, VolumeError> {
        drop(self.gate.blocking_lock());
        self.inner.read(path, offset, length)
    }
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), VolumeError> {
        drop(self.gate.blocking_lock());
        self.inner.write(path, bytes)
    }
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, VolumeError> {
        self.inner.list(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), VolumeError> {
        self.inner.create_dir(path)
    }
    fn remove(&self, path: &str, recursive: bool) -> Result<(), VolumeError> {
        self.inner.remove(path, recursive)
    }
    fn take_records(&self) -> Option<FileRecords> {
        self.inner.take_records()
    }
    fn tree(&self) -> Result<Tree, VolumeError> {
        self.inner.tree()
    }
    fn close(&self) {}
}

#[tokio::test]
async fn a_cancelled_read_is_left_and_a_cancelled_write_is_finished() {
    let inner = volume("/workspace", &[], &["/workspace"]);
    inner.put("/workspace/a", b"text");
    let hanging = Arc::new(HangingFiles { inner: Arc::clone(&inner), gate: tokio::sync::Mutex::new(()) });
    let workspace = Arc::new(Workspace::new(vec![Arc::clone(&hanging) as Arc<dyn Files>]));
    let context = ToolContext {
        execution: ExecutionId::from_uuid(Uuid::nil()),
        workspace,
        listener: None,
        way_out: None,
        tenant: Tenant::default_tenant(),
        record: None,
    };
    let tools = FileTools::new();

    let gate = hanging.gate.lock().await;
    for (tool, arguments) in [("fs.read", json!({"path": "a"})), ("fs.grep", json!({"pattern": "text"}))] {
        let cancel = CancellationToken::new();
        let call = call(tool, arguments);
        let (answer, ()) = tokio::join!(tools.call(&context, &call, &cancel), async { cancel.cancel() });
        assert_eq!(answer, Err(ToolError::Cancelled), "{tool}");
    }
    let cancel = CancellationToken::new();
    let write = call("fs.write", json!({"path": "b", "content": "done"}));
    let (answer, ()) = tokio::join!(tools.call(&context, &write, &cancel), async {
        cancel.cancel();
        drop(gate);
    });
    assert_eq!(answer.unwrap().size, Some(4));
    assert_eq!(inner.content("/workspace/b").unwrap(), b"done");
}
