"""Signed tool calls to an AEGIS node.

    from aegis_smcp import Client

    client = Client.from_environment()
    print(client.invoke("fs.read", {"path": "/workspace/notes.txt"}))
"""
from .canonical import NotCanonical, canonical
from .client import Client, Session
from .envelope import envelope, nonce, signed_bytes
from .errors import ProtocolError, SmcpError, TransportError
from .keys import Key

__all__ = [
    "Client",
    "Key",
    "NotCanonical",
    "ProtocolError",
    "Session",
    "SmcpError",
    "TransportError",
    "canonical",
    "envelope",
    "nonce",
    "signed_bytes",
]
