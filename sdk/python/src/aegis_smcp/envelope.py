"""The envelope around one request."""
import base64
import hashlib
import time

from .canonical import canonical

PROTOCOLS = ("smcp/v1", "seal/v1")


def signed_bytes(payload, security_token, seconds):
    """What is signed: RFC 8785 JSON of payload, token and Unix seconds."""
    return canonical({"payload": payload, "security_token": security_token, "timestamp": seconds})


def nonce(payload, security_token, seconds):
    """What the node remembers of an envelope, in hexadecimal."""
    return hashlib.sha256(signed_bytes(payload, security_token, seconds)).hexdigest()


def envelope(payload, security_token, key, seconds=None, protocol="smcp/v1"):
    """A signed envelope, as a dictionary."""
    if protocol not in PROTOCOLS:
        raise ValueError("the protocol is one of %s" % ", ".join(PROTOCOLS))
    seconds = int(time.time()) if seconds is None else seconds
    signature = key.sign(signed_bytes(payload, security_token, seconds))
    return {
        "protocol": protocol,
        "security_token": security_token,
        "signature": base64.b64encode(signature).decode("ascii"),
        "payload": payload,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
    }
