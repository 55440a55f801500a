"""One HTTP exchange over a Unix socket or TCP."""
import http.client
import socket
import urllib.parse

from .errors import ProtocolError, TransportError

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.path)
        except OSError:
            self.sock.close()
            self.sock = None
            raise


class Transport:
    """Where the node is, and how it is spoken to."""

    def __init__(self, socket_path=None, url=None, timeout=60.0):
        if not socket_path and not url:
            raise ValueError("no node to speak to: set AEGIS_API_SOCKET or AEGIS_ORCHESTRATOR_URL")
        self.socket_path = socket_path
        self.timeout = timeout
        self.prefix = ""
        if not socket_path:
            self.url = urllib.parse.urlsplit(url)
            if self.url.scheme not in ("http", "https") or not self.url.hostname:
                raise ValueError("%r is not an http or https address" % url)
            self.prefix = self.url.path.rstrip("/")

    def _connection(self):
        if self.socket_path:
            return UnixConnection(self.socket_path, self.timeout)
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        return kind(self.url.hostname, self.url.port, timeout=self.timeout)

    def exchange(self, method, path, body=None, headers=None):
        """Sends one request; answers with status and body. Nothing is sent twice."""
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            try:
                connection.request(method, self.prefix + path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # A node that refuses may answer, and close, before it has read the whole request.
                pass
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise TransportError("%s %s: %s" % (method, path, error or type(error).__name__))
        finally:
            connection.close()
        if len(answer) > ANSWER_BYTES_MAX:
            raise ProtocolError("the answer is longer than %d bytes" % ANSWER_BYTES_MAX)
        return response.status, answer
