"""The client under test of the MCP conformance suite: a node of its own, driven by `aegis` as a person would.

The suite starts one server for each scenario and runs: client.py AEGIS URL
with the scenario's name, its protocol revision and its context in the environment.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

READY_SECONDS = 60
SETTLED_SECONDS = 30
# How often a refused call leads to another sign-in: a person would not go on for ever either.
SIGN_INS_MAX = 3
# The document that the suite expects of clients which describe themselves by one.
CLIENT_DOCUMENT = "https://conformance-test.local/client-metadata.json"
# Scenarios whose tools want certain arguments and whose context names no calls.
CALLS = {
    "tools_call": [("add_numbers", {"a": 5, "b": 3})],
    "http-invalid-tool-headers": [("valid_tool", {"region": "eu"})],
    "json-schema-ref-no-deref": [],
}


class Redirected(urllib.request.HTTPRedirectHandler):
    """Shows redirects instead of following them."""

    def redirect_request(self, *_):
        return None


class Node:
    def __init__(self, aegis, url, scenario, revision, context):
        self.aegis = aegis
        self.home = tempfile.mkdtemp(prefix="aegis-conformance-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        server = {"name": "far", "url": url, "protocol": revision, "grants": ["elicitation"]}
        if scenario.startswith("auth/"):
            server["oauth"] = sign_in(context)
        config = {
            "apiVersion": "100monkeys.ai/v1",
            "kind": "NodeConfig",
            "metadata": {"name": "conformance"},
            "spec": {
                "mcp_servers": [server],
                "security_contexts": [{"name": "served", "capabilities": [{"tool_pattern": "*"}]}],
                # No model is asked: calls are a person's.
                "llm_providers": [
                    {
                        "name": "none",
                        "type": "openai-compatible",
                        "endpoint": "http://127.0.0.1:9/v1",
                        "models": [{"alias": "default", "model": "none"}],
                    }
                ],
            },
        }
        self.config = os.path.join(self.home, "config.yaml")
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(config, file)  # JSON is YAML.
        log = open(os.path.join(self.home, "daemon.log"), "wb")
        self.daemon = subprocess.Popen(self.command("daemon", "start"), env=self.env(), stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the daemon is not ready:\n" + self.log())
            time.sleep(0.05)

    def command(self, *words):
        return [self.aegis, "--port", str(self.port), "--config", self.config, *words]

    def env(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AEGIS_")}
        return {**kept, "AEGIS_HOME": self.home, "NO_COLOR": "1"}

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def log(self):
        with open(os.path.join(self.home, "daemon.log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def run(self, *words):
        done = subprocess.run(self.command(*words), env=self.env(), capture_output=True, text=True, timeout=120)
        print(f"$ aegis {' '.join(words)}\n{done.stdout}{done.stderr}", flush=True)
        return done

    def server(self):
        """The server once it no longer starts."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            shown = json.loads(self.run("server", "show", "far", "--output", "json").stdout)
            if shown["state"] != "starting" or time.monotonic() > deadline:
                return shown
            time.sleep(0.2)

    def tools(self):
        self.run("tool", "list")
        shown = self.server()
        return [tool["name"] for tool in (shown.get("description") or {}).get("tools", [])]

    def deploy(self, tools):
        """An agent that may call these tools: calls act as one."""
        manifest = {
            "apiVersion": "100monkeys.ai/v1",
            "kind": "Agent",
            "metadata": {"name": "caller", "version": "1.0.0"},
            "spec": {
                "runtime": {"language": "python", "version": "3.8", "isolation": "process"},
                "task": {"instruction": "Call tools."},
                "security_context": "served",
                "tools": tools,
            },
        }
        path = os.path.join(self.home, "agent.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(manifest, file)
        return self.run("agent", "deploy", path).returncode == 0

    def call(self, tool, arguments):
        words = ["--agent", "caller", "--arguments", json.dumps(arguments), "--accept-defaults"]
        return self.run("tool", "call", tool, *words)

    def login(self):
        """A person who opens the address that is printed, and agrees. Whether it came to a sign-in."""
        process = subprocess.Popen(
            self.command("server", "login", "far"), env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in process.stderr:
            print(line, end="", flush=True)
            if re.match(r"https?://", line):
                browse(line.strip())
                break
        out, err = process.communicate(timeout=120)
        print(out, err, flush=True)
        return process.returncode == 0

    def end(self):
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
        print(self.log(), file=sys.stderr)
        shutil.rmtree(self.home, ignore_errors=True)


def sign_in(context):
    """The `oauth` section for what the scenario gives its client."""
    if "client_id" not in context:
        return {"client_metadata_url": CLIENT_DOCUMENT}
    section = {"client_id": context["client_id"]}
    if "client_secret" in context:
        section["client_secret"] = "literal:" + context["client_secret"]
        if context.get("name", "").startswith("auth/client-credentials"):
            section["grant"] = "client_credentials"
    return section


def browse(url):
    """Follows redirects as a browser does, to the node's own port at the end."""
    opener = urllib.request.build_opener(Redirected)
    for _ in range(5):
        try:
            with opener.open(url, timeout=20):
                return
        except urllib.error.HTTPError as answer:
            location = answer.headers.get("location")
            if location is None:
                print(f"the browser met {answer.code}", flush=True)
                return
            url = urllib.parse.urljoin(url, location)


def wants_sign_in(text):
    return "aegis server login" in text


def main():
    aegis, url = sys.argv[1:3]
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    revision = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    node = Node(aegis, url, scenario, revision, context)
    try:
        return drive(node, scenario, context)
    finally:
        node.end()


def drive(node, scenario, context):
    sign_ins = 0
    shown = node.server()
    # One authorization server may take the place of another at once.
    while wants_sign_in(shown.get("reason") or "") and sign_ins < SIGN_INS_MAX:
        sign_ins += 1
        if not node.login():
            return 1
        shown = node.server()
    names = node.tools()
    shown = node.server()
    if wants_sign_in(shown.get("reason") or "") and sign_ins < SIGN_INS_MAX:
        sign_ins += 1
        if not node.login():
            return 1
        names = node.tools()
        shown = node.server()
    calls = [(call["name"], call.get("arguments", {})) for call in context.get("toolCalls", [])]
    calls = calls or CALLS.get(scenario, [(name, {}) for name in names])
    if calls and not node.deploy(sorted({tool for tool, _ in calls})):
        return 1
    for tool, arguments in calls:
        done = node.call(tool, arguments)
        while wants_sign_in(done.stdout + done.stderr) and sign_ins < SIGN_INS_MAX:
            sign_ins += 1
            if not node.login():
                return 1
            done = node.call(tool, arguments)
    # What a call came to is judged by the suite, which saw it.
    return 0 if shown["state"] == "ready" else 1


if __name__ == "__main__":
    sys.exit(main())
