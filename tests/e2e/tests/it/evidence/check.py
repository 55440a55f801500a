"""Checks an export, and proofs from it, with nothing of AEGIS: RFC 6962 trees, RFC 8032 signatures, C2SP signed notes.

    check.py export EXPORT KEY_BASE64          all events of an export that begins at the log's first event
    check.py proof PROOF KEY_BASE64            one event under a signed head

Prints what was proved and ends with 0; else says what does not hold and ends with 1. Standard library only.
"""
import base64
import hashlib
import json
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


# Trees: RFC 6962, section 2.1.

def leaf_hash(leaf):
    return sha256(b"\0" + leaf)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def split(count):
    """The largest power of two below count."""
    return 1 << (count - 1).bit_length() - 1


def root_of(hashes):
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    middle = split(len(hashes))
    return node_hash(root_of(hashes[:middle]), root_of(hashes[middle:]))


def root_from_inclusion(index, size, leaf, path):
    """The root that an audit path leads to, walked down the tree's own shape."""
    if size == 1:
        require(not path, "the proof is longer than the tree is deep")
        return leaf
    require(path, "the proof is shorter than the tree is deep")
    middle, sibling = split(size), path[-1]
    if index < middle:
        return node_hash(root_from_inclusion(index, middle, leaf, path[:-1]), sibling)
    return node_hash(sibling, root_from_inclusion(index - middle, size - middle, leaf, path[:-1]))


def consistency(hashes, size, proof):
    """Roots (old, new) that a consistency proof between the tree over `hashes` and one of `size` leaves leads to."""
    old = root_of(hashes)

    def walk(count, total, whole, path):
        if count == total:
            if whole:
                require(not path, "the proof is too long")
                return old, old
            require(len(path) == 1, "the proof has another length")
            return path[0], path[0]
        require(path, "the proof is too short")
        middle, sibling = split(total), path[-1]
        if count <= middle:
            first, second = walk(count, middle, whole, path[:-1])
            return first, node_hash(second, sibling)
        first, second = walk(count - middle, total - middle, False, path[:-1])
        return node_hash(sibling, first), node_hash(sibling, second)

    return walk(len(hashes), size, True, proof)


# Signatures: RFC 8032, section 5.1, Ed25519.

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def x_of(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    require((x * x - square) % P == 0 and y < P, "a point is not on the curve")
    return P - x if x & 1 != sign else x


def point(data):
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    x = x_of(y, number >> 255)
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, p):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, p)
        p, scalar = add(p, p), scalar >> 1
    return result


BASE_Y = 4 * pow(5, P - 2, P) % P


def signed(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= Q:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = times(scalar, BASE), add(point(signature[:32]), times(challenge, point(key)))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Notes: C2SP signed-note and tlog-checkpoint.

def head(note, key):
    """Size and root of a checkpoint, if the key signed it."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, size, root = text.split("\n")[:3]
    wanted = sha256(origin.encode() + b"\n\x01" + key)[:4]
    for line in signatures.splitlines():
        mark, name, encoded = line.split(" ")
        blob = base64.b64decode(encoded)
        if mark == "\u2014" and name == origin and blob[:4] == wanted:
            require(signed(key, text.encode(), blob[4:]), "the signature of the head is wrong")
            return int(size), base64.b64decode(root)
    raise Wrong("the head is not signed by this key")


class Wrong(Exception):
    pass


def require(holds, what):
    if not holds:
        raise Wrong(what)


BASE_X = x_of(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def check_export(path, key):
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    require(lines[-1] == b"", "the last line is cut")
    header, leaves = json.loads(lines[0]), lines[1:-1]
    require(header["first"] == 0, "the export does not begin at the first event")
    require(len(leaves) == header["next"], "events are missing, or too many")
    size, root = head(header["checkpoint"], key)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    for place, leaf in enumerate(leaves):
        require(json.loads(leaf)["seq"] == place, "event %d is not in its place" % place)
    if len(hashes) == size:
        require(not header["consistency"] and root_of(hashes) == root, "the events are not those that were signed")
    else:
        proof = [bytes.fromhex(text) for text in header["consistency"]]
        old, new = consistency(hashes, size, proof)
        require(old == root_of(hashes) and new == root, "the events are not those that were signed")
    return "%d events, unaltered and in this order, under a head over %d" % (len(leaves), size)


def check_proof(path, key):
    with open(path, encoding="utf-8") as file:
        proof = json.load(file)
    size, root = head(proof["checkpoint"], key)
    require(0 <= proof["seq"] < size, "the head is not over the event")
    leaf = proof["leaf"].encode()
    require(json.loads(leaf)["seq"] == proof["seq"], "the leaf is another event's")
    path = [bytes.fromhex(text) for text in proof["hashes"]]
    require(root_from_inclusion(proof["seq"], size, leaf_hash(leaf), path) == root, "the proof does not lead to the root")
    return "event %d is in the log under a head over %d" % (proof["seq"], size)


def main():
    what, path, key = sys.argv[1:]
    try:
        print({"export": check_export, "proof": check_proof}[what](path, base64.b64decode(key)))
    except (Wrong, ValueError, KeyError) as error:
        sys.exit("does not hold: %s" % error)


main()
