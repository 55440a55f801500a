"""The client's key. It is made here and never leaves the process."""
import os

from . import ed25519

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
except Exception:  # not installed, too old, or its binary part does not load
    Ed25519PrivateKey = None


class Key:
    """An Ed25519 key, of 32 random bytes unless a seed is given."""

    def __init__(self, seed=None):
        seed = os.urandom(32) if seed is None else bytes(seed)
        self._seed = seed
        self._fast = Ed25519PrivateKey.from_private_bytes(seed) if Ed25519PrivateKey else None
        self.public_key = ed25519.public_key(seed)

    def sign(self, message):
        """The signature of a message, 64 bytes."""
        return self._fast.sign(message) if self._fast else ed25519.sign(self._seed, message)

    def __repr__(self):
        return "Key(…)"
