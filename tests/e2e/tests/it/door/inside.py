"""Runs in a sandbox: calls tools by the client of sdk/python, then tries what it may not. Prints one line a finding."""
import http.client
import json
import os
import sys

sys.path.insert(0, "/workspace/sdk")
# As where it is not installed: the client signs by itself.
sys.modules["cryptography"] = None

from aegis_smcp import Client, SmcpError
from aegis_smcp.transport import Transport


def told(name, value):
    print("%s=%s" % (name, value))


def refused(name, act):
    try:
        told(name, "taken: %r" % (act(),))
    except SmcpError as error:
        told(name, "%s %s" % (error.code, error.reason or error.name))


client = Client.from_environment()
session = client.attest()
told("written", client.invoke("fs.write", {"path": "/workspace/by-smcp.txt", "content": "signed"})["isError"])
told("seen", open("/workspace/by-smcp.txt").read())
told("read", "signed" in client.invoke("fs.read", {"path": "/workspace/by-smcp.txt"})["content"][0]["text"])
told("tools", "fs.read" in [tool["name"] for tool in client.tools()])
told("over-tcp", len(Client(url=os.environ["AEGIS_ORCHESTRATOR_URL"]).tools()) > 0)

refused("second-attestation", Client.from_environment().attest)
refused("scope", Client.from_environment(requested_scope="root").attest)
refused("other-execution", Client.from_environment(workload_id="00000000-0000-7000-8000-000000000000/1").attest)
refused("command", lambda: client.invoke("cmd.run", {"command": "id"}))
refused("not-listed", lambda: client.invoke("web.fetch", {"url": "http://127.0.0.1"}))
refused("path", lambda: client.invoke("fs.read", {"path": "/etc/passwd"}))

transport = Transport(socket_path=os.environ["AEGIS_API_SOCKET"])


def asked(name, method, path, body=None, headers=None):
    status, text = transport.exchange(method, path, body, headers)
    try:
        code = json.loads(text).get("code")
    except ValueError:
        code = None
    told(name, "%s %s" % (status, code))


asked("agents", "GET", "/v1/agents")
asked("executions", "POST", "/v1/executions", b"{}")
asked("keys", "GET", "/v1/keys")
asked("gateway", "POST", "/v1/dispatch-gateway", b"{}")
asked("models", "POST", "/v1/chat/completions", b"{}")
foreign = {"X-Aegis-Execution": "other", "X-Aegis-Tenant": "other", "Authorization": "Bearer aegis_x"}
asked("headers", "GET", "/v1/smcp/tools", None, foreign)
told("token", session.security_token)
