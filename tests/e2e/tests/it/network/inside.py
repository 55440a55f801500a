"""What a hostile program inside tries at the proxy; one line for each, `NAME: what came of it`."""

import socket
import ssl
import sys

PORT, OTHER = int(sys.argv[1]), int(sys.argv[2])
PROXY = ("127.0.0.1", 3128)


def reach():
    return socket.create_connection(PROXY, timeout=20)


def first_line(connection):
    data = b""
    while b"\r\n" not in data:
        part = connection.recv(4096)
        if not part:
            break
        data += part
    return data.split(b"\r\n")[0].decode("latin-1")


def plain(name, url, host=None, more=""):
    host = host or url.split("/")[2]
    with reach() as connection:
        connection.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (url, host, more)).encode("latin-1"))
        print("%s: %s" % (name, first_line(connection)))


def tunnel(name, target):
    connection = reach()
    connection.sendall(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)).encode("latin-1"))
    line = first_line(connection)
    if name:
        print("%s: %s" % (name, line))
    return connection


def greet(name, said):
    """A TLS ClientHello that says `said` in a tunnel to the permitted host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(tunnel(None, "localhost:%d" % PORT), server_hostname=said).close()
        print("%s: a TLS session" % name)
    except (ssl.SSLError, OSError) as error:
        print("%s: %s" % (name, str(error).replace("\n", " ")))


def outside(name, kind, address):
    try:
        with socket.socket(socket.AF_INET, kind) as direct:
            direct.settimeout(3)
            direct.connect(address)
            direct.send(b"x")
            print("%s: it went out" % name)
    except OSError as error:
        print("%s: %s" % (name, error.strerror or error))


plain("allowed", "http://localhost:%d/ok" % PORT)
plain("redirect", "http://localhost:%d/redirect" % PORT)
plain("redirected", "http://elsewhere.example/")
plain("port", "http://localhost:%d/ok" % OTHER)
plain("host", "http://localhost:%d/ok" % PORT, host="elsewhere.example")
plain("two hosts", "http://localhost:%d/ok" % PORT, more="Host: elsewhere.example\r\n")
plain("two lengths", "http://localhost:%d/ok" % PORT, more="Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")
plain("user", "http://localhost:%d@elsewhere.example/" % PORT, host="elsewhere.example")
plain("metadata", "http://169.254.169.254/latest/meta-data/")
plain("mapped metadata", "http://[::ffff:169.254.169.254]/")
plain("short address", "http://127.1:%d/ok" % PORT)
plain("number", "http://2130706433:%d/ok" % PORT)
plain("hexadecimal", "http://0x7f000001:%d/ok" % PORT)
tunnel("connect elsewhere", "elsewhere.example:443").close()
tunnel("connect port", "localhost:%d" % OTHER).close()
raw = tunnel("raw tunnel", "localhost:%d" % PORT)
raw.sendall(b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
print("raw answer: %r" % raw.recv(64))
greet("other name", "elsewhere.example")
greet("no name", None)
greet("same name", "localhost")
outside("direct", socket.SOCK_STREAM, ("192.0.2.1", 80))
outside("datagram", socket.SOCK_DGRAM, ("192.0.2.1", 53))
