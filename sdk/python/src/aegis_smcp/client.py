"""The client: attest, call tools, list them."""
import base64
import calendar
import itertools
import json
import os
import threading
import time

from .canonical import canonical
from .envelope import PROTOCOLS, envelope
from .errors import ProtocolError, SmcpError
from .keys import Key
from .transport import Transport

# A token is renewed when it has this many seconds left.
RENEW_SECONDS = 30


class Session:
    """What the node gave for an attestation."""

    def __init__(self, session_id, security_token, expires_at):
        self.id = session_id
        self.security_token = security_token
        self.expires_at = expires_at

    def is_over(self, now):
        """Whether the token is, or is about to be, no longer valid."""
        return now >= self.expires_at - RENEW_SECONDS

    def __repr__(self):
        return "Session(%r)" % self.id


class Client:
    """Speaks to one node as one agent. May be used by several threads.

    Inside a sandbox the socket says who speaks; outside, `api_key` does, and `agent` names the agent to act as.
    """

    def __init__(
        self,
        socket_path=None,
        url=None,
        api_key=None,
        agent=None,
        tenant=None,
        workload_id=None,
        requested_scope=None,
        key=None,
        protocol="smcp/v1",
        timeout=60.0,
    ):
        if protocol not in PROTOCOLS:
            raise ValueError("the protocol is one of %s" % ", ".join(PROTOCOLS))
        self._transport = Transport(socket_path, url, timeout)
        self._headers = {}
        if api_key:
            self._headers["Authorization"] = "Bearer " + api_key
        if tenant:
            self._headers["X-Aegis-Tenant"] = tenant
        self._claims = {"agent": agent, "workload_id": workload_id, "requested_scope": requested_scope}
        self._key = key or Key()
        self._protocol = protocol
        self._route = "/v1/" + protocol.split("/")[0]
        self._session = None
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, **options):
        """A client of the node that the environment names."""
        environment = {
            "socket_path": "AEGIS_API_SOCKET",
            "url": "AEGIS_ORCHESTRATOR_URL",
            "api_key": "AEGIS_TOKEN",
            "agent": "AEGIS_AGENT",
            "tenant": "AEGIS_TENANT",
        }
        for option, name in environment.items():
            if os.environ.get(name):
                options.setdefault(option, os.environ[name])
        return cls(**options)

    def attest(self):
        """Opens a session. Calls do so by themselves when there is none."""
        with self._lock:
            return self._attest()

    def invoke(self, tool, arguments=None):
        """Calls a tool; answers with its MCP result. A tool's own failure is a result with `isError`."""
        return self.request("tools/call", {"name": tool, "arguments": {} if arguments is None else arguments})

    def tools(self):
        """The tools that may be called, as MCP describes them."""
        answer = self._exchange("GET", "/tools", None)
        tools = answer.get("tools")
        if not isinstance(tools, list):
            raise ProtocolError("the answer has no list of tools")
        return tools

    def request(self, method, params=None):
        """Sends a signed JSON-RPC request; answers with its result."""
        with self._lock:
            if self._session is None or self._session.is_over(time.time()):
                self._attest()
            session, request_id = self._session, next(self._ids)
        payload = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            payload["params"] = params
        sealed = envelope(payload, session.security_token, self._key, protocol=self._protocol)
        answer = self._exchange("POST", "/invoke", sealed).get("payload")
        if not isinstance(answer, dict) or answer.get("id") != request_id:
            raise ProtocolError("the answer is not to the request %d" % request_id)
        if isinstance(answer.get("error"), dict):
            error = answer["error"]
            raise SmcpError(error.get("code"), "JSON_RPC_ERROR", error.get("message"), request_id)
        if "result" not in answer:
            raise ProtocolError("the answer has no result")
        return answer["result"]

    def _attest(self):
        request = {name: claim for name, claim in self._claims.items() if claim}
        request["public_key"] = base64.b64encode(self._key.public_key).decode("ascii")
        answer = self._exchange("POST", "/attest", request)
        try:
            expires = time.strptime(answer["expires_at"], "%Y-%m-%dT%H:%M:%SZ")
            session = Session(answer["session_id"], answer["security_token"], calendar.timegm(expires))
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError("the attestation's answer cannot be read: %s" % error)
        self._session = session
        return session

    def _exchange(self, method, path, body):
        # Canonical bytes, so that no number is written otherwise than it was signed.
        body = None if body is None else canonical(body)
        status, text = self._transport.exchange(method, self._route + path, body, self._headers)
        try:
            answer = json.loads(text.decode("utf-8"))
        except (UnicodeDecodeError, ValueError):
            raise ProtocolError("the answer, of status %d, is not JSON" % status)
        if not isinstance(answer, dict):
            raise ProtocolError("the answer, of status %d, is not an object" % status)
        error = answer.get("error")
        if isinstance(error, dict):
            raise SmcpError(
                error.get("code"),
                error.get("name"),
                error.get("message"),
                error.get("request_id"),
                error.get("reason"),
            )
        if status != 200:
            # Refused before the protocol was reached: a problem document.
            raise SmcpError(status, answer.get("code"), error or answer.get("detail") or "refused")
        return answer
