"""The client against a node that checks what it gets."""
import base64
import http.server
import json
import os
import socket
import socketserver
import tempfile
import threading
import time
import unittest
from unittest import mock

from aegis_smcp import Client, ProtocolError, SmcpError, TransportError, ed25519, keys, signed_bytes
from aegis_smcp.transport import Transport


class Node:
    """Attests, checks signatures, answers calls, and remembers what it was asked."""

    def __init__(self):
        self.requests = []
        self.attestations = []
        self.ids = set()
        self.valid_seconds = 3600
        self.answer = None

    def respond(self, method, path, headers, body):
        self.requests.append((method, path, headers))
        if self.answer:
            return self.answer
        route = path.rsplit("/", 1)[1]
        if route == "tools":
            return 200, {"tools": [{"name": "fs.read"}]}
        if route == "attest":
            self.attestations.append(body)
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.valid_seconds))
            token = "token-%d" % len(self.attestations)
            return 200, {"status": "attested", "security_token": token, "expires_at": expires, "session_id": "s"}
        return self.invoke(body)

    def invoke(self, body):
        public = base64.b64decode(self.attestations[-1]["public_key"])
        made = int(time.mktime(time.strptime(body["timestamp"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone)
        signed = signed_bytes(body["payload"], body["security_token"], made)
        assert ed25519.verify(public, signed, base64.b64decode(body["signature"]))
        assert abs(time.time() - made) < 30
        payload = body["payload"]
        assert payload["id"] not in self.ids
        self.ids.add(payload["id"])
        if payload["params"]["name"] == "denied":
            error = {"code": 2000, "name": "TOOL_NOT_ALLOWED", "message": "no", "request_id": payload["id"]}
            error["reason"] = "APPROVAL_REQUIRED"
            return 403, {"protocol": body["protocol"], "status": "error", "error": error}
        result = {"content": [{"type": "text", "text": json.dumps(payload["params"])}], "isError": False}
        answer = {"jsonrpc": "2.0", "id": payload["id"], "result": result}
        return 200, {"protocol": body["protocol"], "status": "success", "payload": answer}


def handler(node):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self):
            return "test"

        def log_message(self, *_):
            pass

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = node.respond(self.command, self.path, dict(self.headers), body)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST

    return Handler


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True


class Case(unittest.TestCase):
    def setUp(self):
        self.node = Node()

    def serve(self, kind, address):
        server = kind(address, handler(self.node))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return server

    def socket(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "api.sock")
        self.serve(UnixServer, path)
        return path

    def url(self):
        server = self.serve(TcpServer, ("127.0.0.1", 0))
        return "http://127.0.0.1:%d" % server.server_address[1]


class Calls(Case):
    def test_over_the_sandboxs_socket(self):
        environment = {"AEGIS_API_SOCKET": self.socket(), "AEGIS_ORCHESTRATOR_URL": "http://127.0.0.1:1"}
        with mock.patch.dict(os.environ, environment, clear=True):
            client = Client.from_environment()
        result = client.invoke("fs.read", {"path": "é", "ratio": 0.1, "whole": 2.0})
        told = json.loads(result["content"][0]["text"])
        self.assertEqual(told, {"name": "fs.read", "arguments": {"path": "é", "ratio": 0.1, "whole": 2}})
        client.invoke("fs.list")
        self.assertEqual(len(self.node.attestations), 1)
        self.assertEqual(set(self.node.attestations[0]), {"public_key"})
        self.assertEqual(client.tools(), [{"name": "fs.read"}])
        self.assertEqual(self.node.requests[-1][:2], ("GET", "/v1/smcp/tools"))

    def test_over_http_with_a_key(self):
        environment = {"AEGIS_ORCHESTRATOR_URL": self.url() + "/", "AEGIS_TOKEN": "k", "AEGIS_AGENT": "writer"}
        with mock.patch.dict(os.environ, environment, clear=True):
            client = Client.from_environment(protocol="seal/v1", tenant="t")
        client.invoke("fs.read")
        self.assertEqual(self.node.attestations[0]["agent"], "writer")
        method, path, headers = self.node.requests[0]
        self.assertEqual((method, path), ("POST", "/v1/seal/attest"))
        self.assertEqual(headers["Authorization"], "Bearer k")
        self.assertEqual(headers["X-Aegis-Tenant"], "t")

    def test_without_the_library(self):
        with mock.patch.object(keys, "Ed25519PrivateKey", None):
            client = Client(socket_path=self.socket())
            self.assertIsNone(client._key._fast)
            client.invoke("fs.read")

    def test_a_token_about_to_end_is_renewed(self):
        self.node.valid_seconds = 20
        client = Client(socket_path=self.socket())
        client.invoke("fs.read")
        client.invoke("fs.read")
        self.assertEqual(len(self.node.attestations), 2)

    def test_threads_share_a_session_and_no_id(self):
        client = Client(socket_path=self.socket())
        failures = []

        def work():
            try:
                for _ in range(5):
                    client.invoke("fs.read")
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.node.ids, set(range(1, 21)))
        self.assertEqual(len(self.node.attestations), 1)


class Refusals(Case):
    def test_a_denial_says_why(self):
        client = Client(socket_path=self.socket())
        with self.assertRaises(SmcpError) as refused:
            client.invoke("denied")
        error = refused.exception
        self.assertEqual((error.code, error.name, error.reason), (2000, "TOOL_NOT_ALLOWED", "APPROVAL_REQUIRED"))
        self.assertEqual(error.request_id, 1)

    def test_problem_documents_are_refusals(self):
        self.node.answer = (401, {"code": "unauthenticated", "error": "no credential"})
        with self.assertRaises(SmcpError) as refused:
            Client(socket_path=self.socket()).attest()
        self.assertEqual((refused.exception.code, refused.exception.message), (401, "no credential"))

    def test_answers_of_another_kind_are_refused(self):
        client = Client(socket_path=self.socket())
        client.attest()
        wrong = {"jsonrpc": "2.0", "id": 99, "result": {}}
        for answer in (b"<html>", [1], {}, {"payload": wrong}, {"payload": {"id": 4}}):
            self.node.answer = (200, answer)
            with self.assertRaises(ProtocolError):
                client.invoke("fs.read")
        self.node.answer = (200, {"status": "attested"})
        with self.assertRaises(ProtocolError):
            client.attest()

    def test_an_answer_before_the_request_was_read_is_read(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "early.sock")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()

        def refuse():
            with listener.accept()[0] as connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=refuse, daemon=True).start()
        # More than a socket takes in before it is read.
        status, answer = Transport(socket_path=path, timeout=5).exchange("POST", "/v1/executions", b"x" * (8 << 20))
        self.assertEqual((status, answer), (404, b"{}"))

    def test_nobody_there(self):
        with self.assertRaises(TransportError):
            Client(socket_path="/nonexistent/api.sock").attest()
        with mock.patch.dict(os.environ, {}, clear=True), self.assertRaises(ValueError):
            Client.from_environment()
        with self.assertRaises(ValueError):
            Client(url="ftp://node")


if __name__ == "__main__":
    unittest.main()
