//! The control door, tried by programs that the bootstrap started and by programs that come before it.

use aegis_core::ExitStatus;
use aegis_kernel::port::{Role, Sandbox};
use serde_json::json;

use crate::bootstrap::{self, Daemon};
use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_cannot_speak_for_the_bootstrap() {
    let Some(fixture) = Fixture::new("a_command_cannot_speak_for_the_bootstrap").await else { return };
    let running = fixture.sandbox.start(bootstrap::spec(&fixture, 301)).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    daemon.receive().await;
    let program = "
import os, socket, errno
try:
    socket.socket(socket.AF_UNIX).connect('/run/aegis/control.sock')
    print('OPEN')
except OSError as error:
    print(errno.errorcode[error.errno])
try:
    open('/run/aegis/control.sock', 'w')
except OSError as error:
    print(errno.errorcode[error.errno])
print(sorted(os.readlink('/proc/self/fd/%d' % n).split(':')[0] for n in range(3, 64)
    if os.path.exists('/proc/self/fd/%d' % n)))
";
    let result = daemon.python(program).await;
    assert_eq!(result["stdout"], "ENOENT\nEROFS\n[]\n", "{result}");
    daemon.finish("").await;
    assert_eq!(running.wait().await.unwrap().violations, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_cannot_look_into_the_bootstrap_or_end_it() {
    let Some(fixture) = Fixture::new("a_command_cannot_look_into_the_bootstrap").await else { return };
    let running = fixture.sandbox.start(bootstrap::spec(&fixture, 302)).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    daemon.receive().await;
    let program = "
import os, signal
assert os.getppid() == 1
for name in ['mem', 'environ', 'maps', 'auxv', 'stack']:
    try:
        with open('/proc/1/' + name, 'rb') as file: print(name, 'OPEN', file.read(1))
    except PermissionError: print(name, 'refused')
for name in ['fd', 'map_files']:
    try: print(name, 'OPEN', os.listdir('/proc/1/' + name))
    except PermissionError: print(name, 'refused')
for name in ['exe', 'cwd', 'root', 'fd/3']:
    try: print(name, 'OPEN', os.readlink('/proc/1/' + name))
    except PermissionError: print(name, 'refused')
try:
    open('/proc/1/mem', 'wb'); print('write OPEN')
except PermissionError: print('write refused')
for number in (9, 15, 19, 11): os.kill(1, number)
";
    let result = daemon.python(program).await;
    let lines: Vec<&str> = result["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 12, "{result}");
    assert!(lines.iter().all(|line| line.ends_with("refused")), "{lines:?}");
    let result = daemon.execute(json!({"command": "echo", "args": ["alive"]})).await;
    assert_eq!(result["stdout"], "alive\n");
    daemon.finish("done").await;
    assert_eq!(running.wait().await.unwrap().status, ExitStatus::Exited { code: 0 });
}

/// A program in the bootstrap's place: its child knocks first, then it connects, knocks again and is heard.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_process_is_let_in_and_only_once() {
    let Some(fixture) = Fixture::new("only_the_first_process_is_let_in_and_only_once").await else { return };
    let program = "
import os, socket, time
def knock():
    door = socket.socket(socket.AF_UNIX)
    door.connect('/run/aegis/control.sock')
    return door
child = os.fork()
if child == 0:
    door = knock()
    # Turned away: nothing but the end is heard.
    print('child heard', door.recv(10), flush=True)
    os._exit(0)
os.waitpid(child, 0)
door = knock()
print('first heard', door.recv(2))
try:
    knock(); print('OPEN')
except OSError as error:
    print('again', type(error).__name__)
";
    let mut spec = fixture.python(303, program);
    spec.role = Role::Bootstrap;
    let running = fixture.sandbox.start(spec).await.unwrap();
    let mut connection = running.control().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection.stream, b"hi").await.unwrap();
    let ended = running.wait().await.unwrap();
    let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(stdout, "child heard b''\nfirst heard b'hi'\nagain FileNotFoundError\n");
    let wrong = ended.violations.iter().find(|seen| seen.what == "wrong_peer").unwrap();
    assert_eq!((wrong.door, wrong.count), ("control", 1));
    assert!(running.control().await.is_err(), "the connection is given out once");
}
