//! From the attacker's side: what a program inside tries, and what it gets.

use aegis_core::ExitStatus;
use aegis_kernel::port::{Mount, Sandbox};
use aegis_testkit::conformance::sandbox as suite;

use crate::fixture::Fixture;

/// Defines `attempt(name, action)`, which prints the error's name or what came back.
const ATTEMPT: &str = "
import errno, os, socket, ctypes, sys
def attempt(name, action):
    try:
        print(name, 'OPEN', action())
    except OSError as error:
        print(name, errno.errorcode[error.errno])
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
";

/// Runs `program` after [`ATTEMPT`] and gives its lines.
async fn attempts(fixture: &Fixture, number: u128, program: &str) -> Vec<String> {
    let printed = fixture.print(number, &format!("{ATTEMPT}{program}")).await;
    printed.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_network() {
    let Some(fixture) = Fixture::new("there_is_no_network").await else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = format!(
        "
def inet(address):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(5); s.connect(address)
attempt('outside', lambda: inet(('192.0.2.1', 80)))
attempt('host', lambda: inet(('127.0.0.1', {port})))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53)))
print(sorted(name for _, name in socket.if_nameindex()))
"
    );
    let lines = attempts(&fixture, 1, &program).await;
    assert_eq!(lines, ["outside ENETUNREACH", "host ECONNREFUSED", "udp ENETUNREACH", "['lo']"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_sockets_are_refused() {
    let Some(fixture) = Fixture::new("unusual_sockets_are_refused").await else { return };
    // VSOCK, ALG, PACKET, BLUETOOTH, NETLINK_NETFILTER, XDP.
    let program = "
for family, kind, protocol in [(40, 1, 0), (38, 5, 0), (17, 3, 0), (31, 3, 1), (16, 3, 12), (44, 3, 0)]:
    attempt(family, lambda: socket.socket(family, kind, protocol))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
";
    let lines = attempts(&fixture, 2, program).await;
    assert_eq!(lines.len(), 7);
    assert!(lines.iter().all(|line| line.ends_with("EPERM")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_the_host_cannot_be_reached() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let Some(fixture) = Fixture::new("sockets_of_the_host_cannot_be_reached").await else { return };
    let name = format!("aegis-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let path = fixture.folder.path().join("host.sock");
    let _named = UnixListener::bind(&path).unwrap();
    let program = format!(
        "
def unix(address):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(address)
attempt('abstract', lambda: unix('\\0{name}'))
attempt('named', lambda: unix('{}'))
",
        path.display()
    );
    assert_eq!(attempts(&fixture, 3, &program).await, ["abstract ECONNREFUSED", "named ENOENT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_is_visible() {
    let Some(fixture) = Fixture::new("nothing_of_the_host_is_visible").await else { return };
    std::fs::write(fixture.folder.path().join("data/secret"), "secret").unwrap();
    let program = format!(
        "
for path in ['/root', '/etc/shadow', '/home', '/var', '/sys', '/boot', '{}', '/run/dbus', '/dev/kvm', '/dev/fuse', '/proc/1/root/root']:
    attempt(path, lambda: os.stat(path))
print('processes', len([p for p in os.listdir('/proc') if p.isdigit()]))
print('host', socket.gethostname(), os.getuid(), os.getgid(), os.getgroups())
",
        fixture.folder.path().join("data").display()
    );
    let lines = attempts(&fixture, 4, &program).await;
    assert!(lines[..11].iter().all(|line| line.ends_with("ENOENT")), "{lines:?}");
    assert_eq!(lines[11], "processes 1");
    assert!(lines[12].starts_with("host aegis 1000 1000"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_of_the_root_finds_nothing_unlisted() {
    let Some(fixture) = Fixture::new("a_walk_of_the_root_finds_nothing_unlisted").await else { return };
    let program = "
import os, stat
print(' '.join(sorted(os.listdir('/'))))
print(' '.join(sorted(os.listdir('/etc'))))
print(' '.join(sorted(os.listdir('/dev'))))
for top, folders, files in os.walk('/'):
    if top == '/': folders.remove('proc')
    for name in files + folders:
        path = os.path.join(top, name)
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISBLK(status.st_mode):
            print('SPECIAL', path)
        if not stat.S_ISLNK(status.st_mode) and os.access(path, os.W_OK) and not stat.S_ISCHR(status.st_mode):
            print('WRITABLE', path)
";
    let printed = fixture.print(5, program).await;
    let lines: Vec<&str> = printed.lines().collect();
    let known =
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "tmp", "usr", "workspace"];
    assert!(lines[0].split(' ').all(|name| known.contains(&name)), "{}", lines[0]);
    let known = ["alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "ssl"];
    assert!(lines[1].split(' ').all(|name| known.contains(&name)), "{}", lines[1]);
    let known = [
        "console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
        "tty", "urandom", "zero",
    ];
    assert!(lines[2].split(' ').all(|name| known.contains(&name)), "{}", lines[2]);
    let mut rest: Vec<&str> = lines[3..].to_vec();
    rest.sort_unstable();
    // devpts calls itself writable to its owner; it holds terminals alone and makes no files.
    assert_eq!(rest, ["WRITABLE /dev/pts", "WRITABLE /dev/shm", "WRITABLE /tmp", "WRITABLE /workspace"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dangerous_calls_are_refused() {
    let Some(fixture) = Fixture::new("dangerous_calls_are_refused").await else { return };
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIP dangerous_calls_are_refused: the numbers are of x86_64");
        return;
    }
    let program = "
refused = dict(ptrace=101, process_vm_readv=310, process_vm_writev=311, pidfd_getfd=438, io_uring_setup=425, bpf=321,
    keyctl=250, add_key=248, userfaultfd=323, mount=165, umount2=166, setns=308, unshare=272, perf_event_open=298,
    fsopen=430, chroot=161, pivot_root=155, open_by_handle_at=304, init_module=175, reboot=169, sethostname=170)
for name, number in refused.items():
    attempt(name, lambda: call(number, 0, 0, 0, 0, 0, 0))
CLONE_NEWUSER = 0x10000000
attempt('unshare_user', lambda: call(272, CLONE_NEWUSER))
attempt('clone_user', lambda: call(56, CLONE_NEWUSER | 17, 0, 0, 0, 0))
attempt('clone3', lambda: call(435, 0, 0))
attempt('x32_getpid', lambda: call(0x40000000 | 39))
import fcntl
attempt('TIOCSTI', lambda: fcntl.ioctl(0, 0x5412, b'x'))
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print('caps', status['CapEff'], status['CapPrm'], status['CapBnd'], status['NoNewPrivs'], status['Seccomp_filters'])
";
    let lines = attempts(&fixture, 6, program).await;
    let (refused, rest) = lines.split_at(lines.len() - 5);
    assert_eq!(refused.len(), 22);
    assert!(refused.iter().all(|line| line.ends_with(" EPERM")), "{refused:?}");
    let zero = "0000000000000000";
    assert_eq!(
        rest,
        [
            "clone_user ENOSYS",
            "clone3 ENOSYS",
            "x32_getpid ENOSYS",
            "TIOCSTI ENOSYS",
            &format!("caps {zero} {zero} {zero} 1 2")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_standard_descriptors_go_in() {
    let Some(fixture) = Fixture::new("only_the_standard_descriptors_go_in").await else { return };
    // A descriptor that a careless library left inheritable.
    let careless = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let program = "
import os
for number in range(4096):
    try:
        print(number, os.readlink('/proc/self/fd/%d' % number).split(':')[0])
    except OSError:
        pass
";
    assert_eq!(fixture.print(7, program).await, "0 pipe\n1 pipe\n2 pipe\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_sees_an_unprivileged_user() {
    let Some(fixture) = Fixture::new("the_host_sees_an_unprivileged_user").await else { return };
    let spec = suite::shell(&fixture.sandbox, 8, "sleep 300 & wait");
    let running = fixture.sandbox.start(spec).await.unwrap();
    let facts = running.facts().clone();
    let status = std::fs::read_to_string(format!("/proc/{}/status", facts.pid)).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let uids: Vec<u32> = uids.split_whitespace().map(|uid| uid.parse().unwrap()).collect();
    assert!(uids.iter().all(|uid| *uid == facts.uid && *uid != 0), "{uids:?}");
    running.kill();
    running.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_contained_and_gone() {
    let Some(fixture) = Fixture::new("a_fork_bomb_is_contained_and_gone").await else { return };
    if !fixture.limits("a_fork_bomb_is_contained_and_gone") {
        return;
    }
    let program = "
import os, time
def bomb():
    while True:
        try:
            if os.fork() == 0: os.setsid()
        except OSError:
            time.sleep(0.001)
for _ in range(4):
    try:
        if os.fork() == 0: bomb()
    except OSError:
        pass
time.sleep(0.7)
print('members', len([p for p in os.listdir('/proc') if p.isdigit()]))
";
    let mut spec = fixture.python(9, program);
    spec.limits.pids = 40;
    let running = fixture.sandbox.start(spec).await.unwrap();
    let uid = running.facts().uid;
    let ended = running.wait().await.unwrap();
    assert_eq!(ended.status, ExitStatus::Exited { code: 0 });
    assert_eq!(ended.stdout, b"members 40\n");
    assert!(ended.violations.iter().any(|seen| seen.what == "pids"));
    assert_eq!(processes_of(uid), 0, "all are dead when `wait` returns");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_in_sessions_of_its_own_is_dead_after_the_wait() {
    let Some(fixture) = Fixture::new("hidden_sessions").await else { return };
    let program = "
import os, time, signal
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            time.sleep(300)
        os._exit(0)
time.sleep(0.2)
print(len([p for p in os.listdir('/proc') if p.isdigit()]) > 5)
";
    let running = fixture.sandbox.start(fixture.python(10, program)).await.unwrap();
    let uid = running.facts().uid;
    let ended = running.wait().await.unwrap();
    assert_eq!(ended.stdout, b"True\n");
    if uid != rustix::process::geteuid().as_raw() {
        assert_eq!(processes_of(uid), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_writable_only_where_it_is_meant_to_be() {
    use std::os::unix::fs::PermissionsExt;
    let Some(fixture) = Fixture::new("a_volume_is_writable_only_where_it_is_meant_to_be").await else {
        return;
    };
    let volume = |name: &str| {
        let path = fixture.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), name).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        path
    };
    let mut spec = suite::shell(
        &fixture.sandbox,
        11,
        "cat file /data/in/file; echo more > new && ls; echo x 2>/dev/null > /data/in/new || echo closed",
    );
    spec.mounts = vec![
        Mount { source: volume("open"), target: "/workspace".to_owned(), read_only: false },
        Mount { source: volume("closed"), target: "/data/in".to_owned(), read_only: true },
    ];
    let ended = fixture.run(spec).await;
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "openclosedfile\nnew\nclosed\n");
    assert_eq!(std::fs::read_to_string(fixture.folder.path().join("open/new")).unwrap(), "more\n");
}

/// Processes of the host that run as `uid`.
fn processes_of(uid: u32) -> usize {
    let mark = format!("Uid:\t{uid}\t");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("status")).is_ok_and(|text| text.contains(&mark))
        })
        .count()
}
