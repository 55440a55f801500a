"""What every implementation of the protocol agrees on: schemas/smcp/vectors.json."""
import calendar
import json
import os
import time
import unittest

from aegis_smcp import Key, NotCanonical, canonical, ed25519, envelope, nonce, signed_bytes

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../schemas/smcp/vectors.json")
with open(PATH, encoding="utf-8") as file:
    VECTORS = json.load(file)


def seconds(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


class Signatures(unittest.TestCase):
    def test_rfc_8032(self):
        vectors = VECTORS["ed25519"]["vectors"]
        self.assertGreaterEqual(len(vectors), 4)
        for vector in vectors:
            with self.subTest(vector["name"]):
                seed, public, message, signature = (
                    bytes.fromhex(vector[name]) for name in ("seed", "public_key", "message", "signature")
                )
                self.assertEqual(ed25519.public_key(seed), public)
                self.assertEqual(ed25519.sign(seed, message), signature)
                self.assertTrue(ed25519.verify(public, message, signature))
                # The library, where there is one, agrees.
                self.assertEqual(Key(seed).sign(message), signature)
                self.assertEqual(Key(seed).public_key, public)
                for at in range(64):
                    flipped = bytearray(signature)
                    flipped[at] ^= 1
                    self.assertFalse(ed25519.verify(public, message, bytes(flipped)))
                self.assertFalse(ed25519.verify(public, message + b"x", signature))

    def test_own_code_signs_as_the_library(self):
        for number in range(8):
            key = Key()
            message = os.urandom(number * 100)
            signature = ed25519.sign(key._seed, message)
            self.assertEqual(key.sign(message), signature)
            self.assertTrue(ed25519.verify(key.public_key, message, signature))

    def test_a_key_does_not_show_itself(self):
        self.assertNotIn("seed", repr(Key(b"s" * 32)))
        with self.assertRaises(ValueError):
            ed25519.sign(b"short", b"")


class Canonical(unittest.TestCase):
    def test_vectors(self):
        for vector in VECTORS["json"]["taken"]:
            with self.subTest(vector["json"]):
                value = json.loads(vector["json"])
                self.assertEqual(canonical(value).decode("utf-8"), vector["canonical"])

    def test_what_is_not_signed(self):
        deep = []
        for _ in range(64):
            deep = [deep]
        for value in (2 ** 53, -(2 ** 53), 1e16, float("nan"), float("inf"), {1: 2}, {"a": {2}}, b"x", "\ud800", deep):
            with self.assertRaises(NotCanonical):
                canonical(value)
        self.assertEqual(canonical(deep[0]), b"[" * 64 + b"]" * 64)

    def test_doubles_come_back(self):
        import random

        numbers = random.Random(8785)
        for _ in range(2000):
            number = numbers.uniform(-1, 1) * 10.0 ** numbers.randint(-320, 15)
            text = canonical(number).decode("ascii")
            self.assertEqual(float(text), number)
            self.assertFalse(text.startswith(".") or text.endswith(".") or "E" in text or "e-0" in text)


class Envelopes(unittest.TestCase):
    def test_vectors(self):
        key = Key(bytes.fromhex(VECTORS["session"]["seed"]))
        self.assertEqual(key.public_key.hex(), VECTORS["session"]["public_key"])
        for vector in VECTORS["envelopes"]:
            with self.subTest(vector["name"]):
                there = vector["envelope"]
                token, made = there["security_token"], seconds(there["timestamp"])
                self.assertEqual(signed_bytes(there["payload"], token, made).decode("utf-8"), vector["signed_bytes"])
                self.assertEqual(nonce(there["payload"], token, made), vector["nonce"])
                self.assertEqual(envelope(there["payload"], token, key, made, there["protocol"]), there)

    def test_other_protocols_are_not_signed(self):
        with self.assertRaises(ValueError):
            envelope({}, "t", Key(), protocol="smcp/v2")


if __name__ == "__main__":
    unittest.main()
