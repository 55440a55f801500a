"""The server side of the MCP conformance suite: the fixture behind a node, and the node's `/mcp` before the suite.

Run: server.py AEGIS REVISION NODE SUITE RESULTS

The suite sends no credential. A proxy before `/mcp` adds one, and passes everything else on, `Host` and `Origin` too.
"""

import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import fixture

HERE = os.path.dirname(os.path.abspath(__file__))
READY_SECONDS = 60
# A machine that does much else at the same time is slow.
SCENARIO_TIMEOUT_MS = "120000"
TOOLS = sorted(fixture.TOOLS)
# The node's own names for what servers have beside tools.
OFFERED = [
    "resource.list",
    "resource.templates",
    "resource.read",
    "prompt.list",
    "prompt.get",
    "completion.complete",
]
# What belongs to one connection alone.
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "authorization"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def proxy(target, key):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def passed(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            onward = http.client.HTTPConnection("127.0.0.1", target, timeout=60)
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP:
                    onward.putheader(name, value)
            onward.putheader("Authorization", f"Bearer {key}")
            onward.endheaders(body or None)
            answer = onward.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            # A stream is passed on as it comes; its end is the connection's.
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()
            self.close_connection = True
            onward.close()

        do_GET = do_POST = do_DELETE = passed

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Node:
    def __init__(self, aegis, revision):
        self.aegis, self.home, self.port = aegis, tempfile.mkdtemp(prefix="aegis-conformance-"), free_port()
        os.chmod(self.home, 0o755)
        folder = os.path.join(self.home, "fixture")
        os.mkdir(folder, 0o755)
        shutil.copy(os.path.join(HERE, "fixture.py"), folder)
        spec = {
            "mcp_servers": [
                {
                    "name": "fixture",
                    "executable": "/usr/bin/python3",
                    "args": [os.path.join(folder, "fixture.py"), revision],
                    "folders": [folder],
                    # What the suite's client declares, it is asked.
                    "grants": ["elicitation", "sampling", "roots"],
                }
            ],
            "security_contexts": [
                {"name": "served", "capabilities": [{"tool_pattern": name} for name in TOOLS + OFFERED]}
            ],
        }
        self.write("aegis-config.json", "NodeConfig", "conformance", spec)
        agent = {
            "runtime": {"language": "python", "isolation": "process"},
            "task": {"instruction": "Be acted as."},
            "security_context": "served",
            "tools": TOOLS + OFFERED,
        }
        self.write("agent.json", "Agent", "fixture", agent)
        command = [aegis, "daemon", "start"]
        log = open(os.path.join(self.home, "log"), "w")
        self.daemon = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)

    def write(self, name, kind, called, spec):
        metadata = {"name": called, "version": "1.0.0"}
        document = {"apiVersion": "100monkeys.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}
        with open(os.path.join(self.home, name), "w") as file:
            json.dump(document, file)

    def environment(self):
        own = {
            "AEGIS_HOME": os.path.join(self.home, "data"),
            "AEGIS_CONFIG_PATH": os.path.join(self.home, "aegis-config.json"),
            "AEGIS_PORT": str(self.port),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AEGIS_")}
        return {**kept, **own}

    def run(self, *words):
        command = [self.aegis, *words, "--output", "json"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{words}: {done.stderr}")
        return json.loads(done.stdout)

    def ready(self):
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.run("status")
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def end(self):
        self.daemon.terminate()
        self.daemon.wait(timeout=60)
        shutil.rmtree(self.home, ignore_errors=True)


def main():
    aegis, revision, node_program, suite, results = sys.argv[1:6]
    node = Node(aegis, revision)
    try:
        node.ready()
        node.run("agent", "deploy", os.path.join(node.home, "agent.json"))
        key = node.run("key", "create", "suite", "--role", "agent", "--agent", "fixture")["key"]
        url = f"http://127.0.0.1:{proxy(node.port, key)}/mcp"
        expected = os.path.join(HERE, f"expected-failures-server-{revision}.yaml")
        options = ["--url", url, "--requirements", revision, "--expected-failures", expected, "--output-dir", results]
        options += ["--timeout", SCENARIO_TIMEOUT_MS]
        return subprocess.run([node_program, suite, "server", *options], timeout=540).returncode
    finally:
        node.end()


sys.exit(main())
