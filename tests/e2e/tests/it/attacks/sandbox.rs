//! Programs that an agent writes and runs try to leave their sandbox.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use aegis_e2e::Node;

use super::{attempts, bodies, puppet, python, run};
use crate::manifests::worker;

async fn node() -> Node {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("attacker", ""));
    node
}

/// Every line names an error; none an open door.
fn closed(lines: &[String], count: usize) {
    assert_eq!(lines.len(), count, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("OPEN")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_network_and_no_way_to_the_hosts_sockets() {
    let node = node().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("aegis-e2e-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = folder.path().join("host.sock");
    let _named = UnixListener::bind(&path).unwrap();
    let program = format!(
        "
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(5); s.connect(address)
def datagram(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.sendto(b'x', address)
attempt('inet', lambda: connect(socket.AF_INET, ('192.0.2.1', 80)))
attempt('inet6', lambda: connect(socket.AF_INET6, ('2001:db8::1', 80)))
attempt('metadata', lambda: connect(socket.AF_INET, ('169.254.169.254', 80)))
attempt('listener of the host', lambda: connect(socket.AF_INET, ('127.0.0.1', {port})))
attempt('the daemon', lambda: connect(socket.AF_INET, ('127.0.0.1', {daemon})))
attempt('udp', lambda: datagram(socket.AF_INET, ('192.0.2.1', 53)))
def resolve():
    try:
        return socket.getaddrinfo('example.com', 80)
    except socket.gaierror as error:
        raise OSError(errno.EHOSTUNREACH, str(error))
attempt('dns', resolve)
for family, kind, protocol, title in [(40, 1, 0, 'vsock'), (17, 3, 0, 'packet'), (17, 2, 3, 'packet cooked'),
        (16, 3, 12, 'netfilter'), (16, 3, 15, 'uevent'), (16, 3, 9, 'audit'), (38, 5, 0, 'alg'), (44, 3, 0, 'xdp')]:
    attempt(title, lambda: socket.socket(family, kind, protocol))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('abstract', lambda: connect(socket.AF_UNIX, '\\0{name}'))
attempt('named', lambda: connect(socket.AF_UNIX, '{named}'))
attempt('dbus', lambda: connect(socket.AF_UNIX, '/run/dbus/system_bus_socket'))
attempt('docker', lambda: connect(socket.AF_UNIX, '/var/run/docker.sock'))
",
        daemon = node.port(),
        named = path.display(),
    );
    closed(&attempts(&node, "attacker", &program), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_processes_of_the_host_are_not_there() {
    let node = node().await;
    let other = run(&node, "attacker", &python("print('done')"));
    let program = format!(
        "
import glob
for path in ['/etc/shadow', '/etc/ssh', '/root', '/root/.ssh', '/home', '/var', '/sys', '/boot', '{home}', '{home}/token',
        '/run/dbus', '/dev/kvm', '/dev/fuse', '/dev/sda', '/dev/mem', '/proc/1/root/etc', '/proc/1/cwd/attack.py', '/proc/kcore',
        '/proc/sys/kernel/core_pattern']:
    attempt(path, lambda: open(path, 'rb+').read(1) if not os.path.isdir(path) else os.listdir(path))
attempt('the host by its pid', lambda: open('/proc/{pid}/environ').read())
attempt('another run', lambda: os.stat('/run/aegis/{other}'))
attempt('write to a sysctl', lambda: open('/proc/sys/kernel/hostname', 'w').write('x'))
attempt('the run folder', lambda: sorted(os.listdir('/run/aegis')))
attempt('the api socket', lambda: os.stat('/run/aegis/api/api.sock'))
print('variables', sorted(name for name in os.environ if name.startswith(('AEGIS_API', 'OPENAI_', 'ANTHROPIC_'))))
print('run', sorted(os.listdir('/run')))
print('processes', sorted(p for p in os.listdir('/proc') if p.isdigit()))
print('mounts', sum('{home}' in line for line in open('/proc/self/mountinfo')))
",
        home = node.home().display(),
        pid = node.pid(),
        other = other.execution,
    );
    let lines = attempts(&node, "attacker", &program);
    assert_eq!(lines.len(), 28, "{lines:#?}");
    closed(&lines[..22], 22);
    // No api socket, and nothing that says where one were: the manifest does not ask for `inner_api`.
    let (shut, open) = ("the run folder EACCES", "the run folder OPEN ['bootstrap.py', 'prompt.txt']");
    assert!(lines[22] == shut || lines[22] == open, "{lines:#?}");
    assert_eq!(lines[23], "the api socket ENOENT");
    assert_eq!(lines[24], "variables []");
    assert_eq!(lines[25], "run ['aegis']");
    assert!(lines[26].starts_with("processes ['1', '") && lines[26].matches(',').count() == 1, "{lines:#?}");
    assert_eq!(lines[27], "mounts 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bootstrap_cannot_be_read_stopped_or_spoken_for() {
    let node = node().await;
    let program = "
import json, signal
for name in ['environ', 'mem', 'maps', 'auxv', 'stack', 'syscall', 'io', 'smaps']:
    attempt(name, lambda: open('/proc/1/' + name, 'rb').read(1))
attempt('descriptors', lambda: os.listdir('/proc/1/fd'))
attempt('a descriptor', lambda: os.open('/proc/1/fd/3', os.O_RDWR))
attempt('map_files', lambda: os.listdir('/proc/1/map_files'))
attempt('write its memory', lambda: open('/proc/1/mem', 'rb+'))
attempt('attach', lambda: call(101, 16, 1, 0, 0))
attempt('seize', lambda: call(101, 0x4206, 1, 0, 0))
attempt('process_vm_readv', lambda: call(310, 1, 0, 0, 0, 0, 0))
attempt('process_vm_writev', lambda: call(311, 1, 0, 0, 0, 0, 0))
attempt('pidfd_getfd', lambda: call(438, 0, 3, 0))
def post():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ.get('AEGIS_CONTROL_SOCKET', '/run/aegis/control.sock'))
        body = json.dumps({'type': 'dispatch_result', 'execution_id': os.environ.get('AEGIS_EXECUTION_ID', ''), 'dispatch_id': 'x', 'exit_code': 0,
            'stdout': 'forged', 'stderr': '', 'duration_ms': 1, 'truncated': False}).encode()
        s.sendall(b'POST /v1/dispatch-gateway HTTP/1.1\\r\\nHost: aegis\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)
        return s.recv(100)
attempt('post', post)
def adopt(number):
    return socket.socket(fileno=os.dup(number)).getpeername()
for number in range(3, 200):
    try:
        os.fstat(number)
    except OSError:
        continue
    try:
        target = os.readlink('/proc/self/fd/%d' % number)
    except OSError:
        continue
    if target.startswith('socket:'):
        attempt('descriptor %d' % number, lambda: adopt(number))
attempt('make a socket of its own there', lambda: socket.socket(socket.AF_UNIX).bind('/run/aegis/control.sock'))
attempt('change the bootstrap', lambda: open('/run/aegis/bootstrap.py', 'a'))
attempt('core limit', lambda: open('/proc/1/limits', 'w'))
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV):
    os.kill(1, number)
time.sleep(0.1)
print('alive', os.path.exists('/proc/1'), os.getppid() == 1)
";
    let run = run(&node, "attacker", &python(&format!("{}{program}", super::ATTEMPT)));
    let lines = run.lines();
    let (last, attempts) = lines.split_last().unwrap();
    assert_eq!(attempts.len(), 21, "{lines:#?}");
    closed(attempts, 21);
    assert_eq!(last, "alive True True");
    // The real result reached the daemon, and nobody else's.
    let stream = format!("execution/{}", run.execution);
    let intents = bodies(&node, &stream, "action.intended").len();
    assert_eq!(bodies(&node, &stream, "action.completed").len(), intents);
    assert_eq!(run.status["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifests_environment_reaches_commands_but_not_the_bootstrap() {
    let node = node().await;
    for env in ["AEGIS_EXECUTION_ID: forged", "LD_PRELOAD: /workspace/evil.so"] {
        let forged = node.file("forged.yaml", &worker("forger", &format!("  env: {{{env}}}\n")));
        node.run(&["agent", "deploy", &forged]).expect_code(2);
    }
    // Loaders obey more names than a list holds: none at all reaches the bootstrap.
    node.deploy(&worker("loader", "  env: {PYTHONVERBOSE: '1', GREETING: hello}\n"));
    let program = "import os; print(os.environ['GREETING'], os.environ['AEGIS_EXECUTION_ID'])";
    let run = run(&node, "loader", &python(program));
    assert_eq!(run.lines(), [format!("hello {}", run.execution)]);
    // What obeys a variable there would say so on the bootstrap's own standard error.
    let ended = bodies(&node, &format!("execution/{}", run.execution), "generation.ended");
    assert!(ended.iter().all(|body| body["stderr"].is_null()), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_in_the_background_is_dead_when_the_run_is_over() {
    let node = node().await;
    let program = "
import os, signal, sys, time
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            null = os.open('/dev/null', os.O_RDWR)
            for number in (0, 1, 2): os.dup2(null, number)
            while True:
                try: open('/workspace/heartbeat', 'w').write(str(time.time()))
                except OSError: pass
                time.sleep(0.01)
        os._exit(0)
time.sleep(0.2)
print(len([p for p in os.listdir('/proc') if p.isdigit()]) >= 6)
";
    let run = run(&node, "attacker", &python(program));
    assert_eq!(run.lines(), ["True"]);
    let stream = format!("execution/{}", run.execution);
    let started = bodies(&node, &stream, "generation.started");
    let uid = started[0]["sandbox"]["uid"].as_u64().unwrap();
    let ended = bodies(&node, &stream, "generation.ended");
    assert_eq!(ended.len(), started.len(), "the end is on record");
    if uid != u64::from(rustix::process::geteuid().as_raw()) {
        assert_eq!(processes_of(uid), Vec::<String>::new());
    }
    // The marks are the product's own; the crash sweep sees them find what a killed daemon leaves.
    let marks = crate::crash::Marks::of(node.home(), &run.execution);
    crate::observe::until("nothing is left", || marks.look().is_empty());
}

fn processes_of(uid: u64) -> Vec<String> {
    let mark = format!("Uid:\t{uid}\t");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let statuses = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok());
    statuses.filter(|status| status.contains(&mark)).collect()
}
