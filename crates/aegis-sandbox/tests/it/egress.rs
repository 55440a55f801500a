//! The door to the outside: programs inside, a proxy that decides by rules, and servers on this machine's loopback.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_core::{Denial, ExitStatus};
use aegis_kernel::port::{
    Door, Doors, EgressEnd, EgressGrant, EgressLimits, EgressOutcome, EgressPolicy, EgressRequest, Role,
    Sandbox, SandboxSpec,
};
use aegis_sandbox::{EgressProxy, Resolver};
use aegis_security::egress::{Destination, EgressMode, EgressRules};
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(20);

/// One layer of rules, and what became of what it permitted.
struct Policy {
    rules: Arc<[EgressRules]>,
    cut: CancellationToken,
    limits: EgressLimits,
    outcomes: Mutex<Vec<oneshot::Receiver<EgressOutcome>>>,
}

impl Policy {
    fn new(allow: &[String]) -> Arc<Self> {
        // `raw ` before an entry stands for its flag.
        let entry = |text: &String| match text.strip_prefix("raw ") {
            Some(text) => Destination { text: text.to_owned(), raw: true },
            None => text.as_str().into(),
        };
        let list: Vec<Destination> = allow.iter().map(entry).collect();
        let rules = EgressRules::new("manifest:t@1.0.0", EgressMode::Allow, &list, &[]).unwrap();
        Arc::new(Self {
            rules: Arc::new([rules]),
            cut: CancellationToken::new(),
            limits: EgressLimits::default(),
            outcomes: Mutex::default(),
        })
    }

    async fn outcome(&self) -> EgressOutcome {
        let receiver = self.outcomes.lock().unwrap().pop().unwrap();
        tokio::time::timeout(PATIENCE, receiver).await.unwrap().unwrap()
    }
}

#[async_trait]
impl EgressPolicy for Policy {
    async fn decide(&self, request: &EgressRequest) -> Result<EgressGrant, Denial> {
        let permit = self.rules[0].permits_name(&request.host, request.port)?;
        let (ended, outcome) = oneshot::channel();
        self.outcomes.lock().unwrap().push(outcome);
        Ok(EgressGrant {
            layers: Arc::clone(&self.rules),
            raw: permit.raw,
            cut: self.cut.clone(),
            limits: self.limits,
            volume: Arc::new(AtomicU64::new(u64::MAX)),
            ended,
        })
    }
}

/// Answers as it is told, and remembers what it was asked.
struct Names {
    answers: HashMap<&'static str, &'static str>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn new(answers: &[(&'static str, &'static str)]) -> Arc<Self> {
        Arc::new(Self { answers: answers.iter().copied().collect(), asked: Mutex::default() })
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let answer = self.answers.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(answer.split(' ').map(|text| text.parse().unwrap()).collect())
    }
}

/// A server that answers everything it is sent with `answer`, and gives what came on each connection.
async fn server(answer: &'static [u8]) -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let index = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    kept.lock().unwrap()[index].extend_from_slice(&chunk[..count]);
                    let is_http = answer.starts_with(b"HTTP");
                    if stream.write_all(answer).await.is_err() || is_http {
                        break;
                    }
                }
            });
        }
    });
    (port, seen)
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";

/// A program with doors and their environment.
fn spec(fixture: &Fixture, number: u128, doors: Doors, program: &str) -> SandboxSpec {
    let mut spec = fixture.python(number, program);
    spec.role = Role::Bootstrap;
    spec.doors = doors;
    spec.env.extend(doors.environment());
    spec
}

/// Runs a program whose connections to the outside are served; gives what it printed.
async fn run(
    fixture: &Fixture,
    number: u128,
    program: &str,
    policy: &Arc<Policy>,
    names: &Arc<Names>,
) -> String {
    let doors = Doors { api: false, egress: true };
    let running: Arc<dyn aegis_kernel::port::Sandboxed> =
        fixture.sandbox.start(spec(fixture, number, doors, program)).await.unwrap().into();
    let proxy = EgressProxy::with_resolver(Arc::clone(names) as Arc<dyn Resolver>);
    let (doorkeeper, policy) = (Arc::clone(&running), Arc::clone(policy));
    let serving = tokio::spawn(async move {
        while let Ok(connection) = doorkeeper.door().await {
            assert_eq!((connection.door, connection.generation), (Door::Egress, 1));
            let (proxy, policy) = (proxy.clone(), Arc::clone(&policy));
            tokio::spawn(async move { proxy.serve_stream(connection.stream, policy.as_ref()).await });
        }
    });
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status, ExitStatus::Exited { code: 0 }, "{stderr}");
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    String::from_utf8(ended.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_reach_what_is_permitted_and_nothing_else() {
    let Some(fixture) = Fixture::new("programs_reach_what_is_permitted_and_nothing_else").await else {
        return;
    };
    let (port, seen) = server(HELLO).await;
    let policy = Policy::new(&[
        format!("site.test:{port}"),
        format!("rebound.test:{port}"),
        format!("mixed.test:{port}"),
        "metadata.test".to_owned(),
        format!("127.0.0.1/32:{port}"),
    ]);
    let names = Names::new(&[
        ("site.test", "127.0.0.1"),
        ("rebound.test", "127.0.0.2"),
        ("mixed.test", "127.0.0.1 10.0.0.1"),
        ("metadata.test", "::ffff:169.254.169.254"),
    ]);
    let program = format!(
        "
import errno, socket, urllib.error, urllib.request
def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer: print('OPEN', answer.read().decode())
    except urllib.error.HTTPError as error: print(error.code, error.headers['X-Aegis-Code'])
for url in ['http://site.test:{port}/a?b', 'http://127.0.0.1:{port}/', 'http://other.test:{port}/',
        'http://site.test/', 'http://rebound.test:{port}/', 'http://mixed.test:{port}/', 'http://metadata.test/']:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({{'http': 'http://127.0.0.1:3128'}}))
    urllib.request.install_opener(opener)
    import os
    os.environ.pop('NO_PROXY', None); os.environ.pop('no_proxy', None)
    get(url)
def attempt(kind, address):
    with socket.socket(socket.AF_INET, kind) as s:
        s.settimeout(5)
        try: s.connect(address); s.send(b'x'); print('OPEN')
        except OSError as error: print(errno.errorcode[error.errno])
attempt(socket.SOCK_STREAM, ('127.0.0.1', {port}))
attempt(socket.SOCK_STREAM, ('192.0.2.1', 443))
attempt(socket.SOCK_DGRAM, ('192.0.2.1', 53))
attempt(socket.SOCK_STREAM, ('127.0.0.1', 8088))
"
    );
    let printed = run(&fixture, 401, &program, &policy, &names).await;
    let denied = "403 DOMAIN_NOT_ALLOWED";
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..2], ["OPEN hello", "OPEN hello"], "{printed}");
    assert_eq!(lines[2..7], [denied; 5], "{printed}");
    assert_eq!(lines[7..], ["ECONNREFUSED", "ENETUNREACH", "ENETUNREACH", "ECONNREFUSED"], "{printed}");
    let asked = names.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        ["site.test", "rebound.test", "mixed.test", "metadata.test"],
        "only permitted names are resolved"
    );
    let seen = seen.lock().unwrap();
    let text = String::from_utf8_lossy(&seen[0]).into_owned();
    assert!(text.starts_with(&format!("GET /a?b HTTP/1.1\r\nHost: site.test:{port}\r\n")), "{text}");
    assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
    assert_eq!(seen.len(), 2, "what is refused is not even connected to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_says_where_it_goes_or_is_closed() {
    let Some(fixture) = Fixture::new("a_tunnel_says_where_it_goes_or_is_closed").await else { return };
    let (port, seen) = server(b"ok").await;
    let policy = Policy::new(&[
        format!("site.test:{port}"),
        format!("raw raw.test:{port}"),
        format!("127.0.0.1:{port}"),
    ]);
    let names = Names::new(&[("site.test", "127.0.0.1"), ("raw.test", "127.0.0.1")]);
    let program = format!(
        "
import socket, ssl
def hello(name):
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    try: context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()
def tunnel(host, first):
    with socket.create_connection(('127.0.0.1', 3128), 10) as s:
        s.sendall(b'CONNECT %s:{port} HTTP/1.1\\r\\nHost: %s:{port}\\r\\n\\r\\n' % (host, host))
        answer = s.recv(4096).decode().split('\\r\\n')[0]
        if ' 200 ' not in answer: return answer[:32]
        s.sendall(first[:7]); s.sendall(first[7:])
        answer = s.recv(100)
        return answer[:2] if answer.startswith(b'ok') else answer
print(tunnel(b'site.test', hello('site.test')))
print(tunnel(b'site.test', hello('evil.test')))
print(tunnel(b'site.test', hello(None)))
print(tunnel(b'site.test', b'SSH-2.0-client\\r\\n'))
print(tunnel(b'site.test', b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'))
print(tunnel(b'127.0.0.1', hello(None)))
print(tunnel(b'127.0.0.1', hello('site.test')))
print(tunnel(b'raw.test', b'SSH-2.0-client\\r\\n'))
print(tunnel(b'evil.test', hello('evil.test')))
"
    );
    let printed = run(&fixture, 402, &program, &policy, &names).await;
    let alert = r"b'\x15\x03\x03\x00\x02\x02p'";
    let expected =
        ["b'ok'", alert, alert, alert, alert, "b'ok'", alert, "b'ok'", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED:"];
    assert_eq!(printed.lines().map(str::trim_end).collect::<Vec<_>>(), expected, "{printed}");
    let sent: Vec<bool> = seen.lock().unwrap().iter().map(|bytes| !bytes.is_empty()).collect();
    assert_eq!(
        sent.iter().filter(|sent| **sent).count(),
        3,
        "no byte of a refused tunnel goes out: {sent:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_door_is_there_only_where_it_is_given() {
    let Some(fixture) = Fixture::new("each_door_is_there_only_where_it_is_given").await else { return };
    let program = "
import errno, os, socket
def attempt(family, address):
    with socket.socket(family) as s:
        s.settimeout(10)
        try: s.connect(address); print('heard', s.recv(10).decode())
        except OSError as error: print(errno.errorcode[error.errno])
attempt(socket.AF_UNIX, '/run/aegis/api/api.sock')
attempt(socket.AF_INET, ('127.0.0.1', 8088))
attempt(socket.AF_INET, ('127.0.0.1', 3128))
try: socket.create_server(('127.0.0.1', 8088)); print('OPEN')
except OSError as error: print(errno.errorcode[error.errno])
try: open('/run/aegis/api/x', 'w'); print('OPEN')
except OSError as error: print(errno.errorcode[error.errno])
";
    let doors = Doors { api: true, egress: false };
    let running = fixture.sandbox.start(spec(&fixture, 403, doors, program)).await.unwrap();
    for _ in 0..2 {
        let mut connection = tokio::time::timeout(PATIENCE, running.door()).await.unwrap().unwrap();
        assert_eq!(connection.door, Door::Api);
        connection.stream.write_all(b"api").await.unwrap();
    }
    let ended = running.wait().await.unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(printed, "heard api\nheard api\nECONNREFUSED\nEADDRINUSE\nEROFS\n");
    assert!(running.door().await.is_err(), "an ended sandbox has no visitors");

    let running = fixture.sandbox.start(spec(&fixture, 404, Doors::NONE, program)).await.unwrap();
    assert!(running.door().await.is_err());
    let ended = running.wait().await.unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(printed, "ENOENT\nECONNREFUSED\nECONNREFUSED\nOPEN\nENOENT\n");

    let mut refused = spec(&fixture, 405, doors, program);
    refused.role = Role::Validator;
    assert!(fixture.sandbox.start(refused.clone()).await.is_err(), "a validator has no doors");
    refused.role = Role::Server;
    refused.doors = Doors { api: true, egress: true };
    assert!(fixture.sandbox.start(refused).await.is_err(), "a server has no way to the daemon");
}

/// A proxy that serves one stream of this process.
fn proxied(policy: &Arc<Policy>, names: &Arc<Names>) -> tokio::io::DuplexStream {
    let (inside, outside) = tokio::io::duplex(64 * 1024);
    let proxy = EgressProxy::with_resolver(Arc::clone(names) as Arc<dyn Resolver>);
    let policy = Arc::clone(policy);
    tokio::spawn(async move { proxy.serve_stream(outside, policy.as_ref()).await });
    inside
}

async fn exchange(policy: &Arc<Policy>, names: &Arc<Names>, sent: &str) -> String {
    let mut stream = proxied(policy, names);
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn only_the_request_that_was_decided_on_is_sent() {
    let (port, seen) = server(HELLO).await;
    let policy = Policy::new(&[format!("site.test:{port}"), format!("127.0.0.1:{port}")]);
    let names = Names::new(&[("site.test", "127.0.0.1")]);
    let head = |lines: &str| {
        format!("POST http://site.test:{port}/ HTTP/1.1\r\nHost: site.test:{port}\r\n{lines}\r\n")
    };
    let second = format!("GET /secret HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n");
    let answer = exchange(&policy, &names, &format!("{}hello{second}", head("Content-Length: 5\r\n"))).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("Connection: close\r\n\r\nhello"),
        "{answer}"
    );
    let answer = exchange(
        &policy,
        &names,
        &format!("{}5\r\nhello\r\n0\r\n\r\n{second}", head("Transfer-Encoding: chunked\r\n")),
    )
    .await;
    assert!(answer.ends_with("hello"), "{answer}");
    for lines in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "X: a\r\n b\r\n", "Host: evil.test\r\n"]
    {
        assert!(exchange(&policy, &names, &head(lines)).await.starts_with("HTTP/1.1 400 "), "{lines}");
    }
    let other = format!("GET http://site.test:{port}/ HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    assert!(exchange(&policy, &names, &other).await.starts_with("HTTP/1.1 400 "));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter().all(|bytes| !String::from_utf8_lossy(bytes).contains("secret")),
        "a smuggled request"
    );
}

#[tokio::test]
async fn a_connection_is_cut_counted_and_limited() {
    let (port, _) = server(b"four").await;
    let allow = [format!("raw site.test:{port}"), format!("127.0.0.1:{port}")];
    let names = Names::new(&[("site.test", "127.0.0.1")]);
    let open = async |policy: &Arc<Policy>| {
        let mut stream = proxied(policy, &names);
        let head = format!("CONNECT site.test:{port} HTTP/1.1\r\nHost: site.test:{port}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; b"HTTP/1.1 200 Connection established\r\n\r\n".len()];
        stream.read_exact(&mut answer).await.unwrap();
        stream.write_all(b"out").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        stream
    };
    let policy = Policy::new(&allow);
    let mut stream = open(&policy).await;
    policy.cut.cancel();
    let outcome = policy.outcome().await;
    assert_eq!((outcome.end, outcome.bytes_sent, outcome.bytes_received), (EgressEnd::Cut, 3, 4));
    assert_eq!(outcome.address, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the program sees the end");

    let policy = Policy::new(&allow);
    drop(open(&policy).await);
    assert_eq!(policy.outcome().await.end, EgressEnd::Done);

    for (bytes, idle_ms, limit) in [(10, 60_000, "bytes"), (1000, 200, "idle")] {
        let mut policy = Policy::new(&allow);
        let limits = EgressLimits { bytes, idle: Duration::from_millis(idle_ms), ..EgressLimits::default() };
        Arc::get_mut(&mut policy).unwrap().limits = limits;
        let mut stream = open(&policy).await;
        if limit == "bytes" {
            stream.write_all(b"four").await.unwrap();
        }
        assert_eq!(policy.outcome().await.end, EgressEnd::Limit(limit));
    }

    let policy = Policy::new(&[format!("gone.test:{port}")]);
    let head = format!("CONNECT gone.test:{port} HTTP/1.1\r\nHost: gone.test:{port}\r\n\r\n");
    assert!(exchange(&policy, &names, &head).await.starts_with("HTTP/1.1 502 UPSTREAM_UNREACHABLE"));
    assert!(matches!(policy.outcome().await.end, EgressEnd::Failed(_)));
}
