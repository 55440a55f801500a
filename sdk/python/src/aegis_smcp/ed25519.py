"""Ed25519 (RFC 8032, section 5.1) with integers, for where no library is at hand.

Not constant in time: whoever can time single signatures on the same processor may learn about the key. The client's keys live
as long as its process and sign only for it.
"""
import hashlib

P = 2 ** 255 - 19
ORDER = 2 ** 252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)
# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
NEUTRAL = (0, 1, 1, 0)


def public_key(seed):
    """The public key of a 32-byte seed."""
    scalar, _ = _expand(seed)
    return _compress(_times_base(scalar))


def sign(seed, message):
    """The signature of a message, 64 bytes."""
    scalar, prefix = _expand(seed)
    key = _compress(_times_base(scalar))
    r = _hash_scalar(prefix, message)
    commitment = _compress(_times_base(r))
    s = (r + _hash_scalar(commitment, key, message) * scalar) % ORDER
    return commitment + s.to_bytes(32, "little")


def verify(key, message, signature):
    """Whether a signature holds."""
    if len(key) != 32 or len(signature) != 64:
        return False
    point, commitment = _decompress(key), _decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or s >= ORDER:
        return False
    k = _hash_scalar(signature[:32], key, message)
    return _same(_times_base(s), _add(commitment, _times(k, point)))


def _expand(seed):
    if len(seed) != 32:
        raise ValueError("a seed has 32 bytes")
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    scalar &= (1 << 254) - 8
    scalar |= 1 << 254
    return scalar, digest[32:]


def _hash_scalar(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def _add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _double(point):
    x, y, z, _ = point
    a, b = x * x % P, y * y % P
    c = 2 * z * z % P
    h = a + b
    e = h - (x + y) * (x + y) % P
    g = a - b
    f = c + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(scalar, point):
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _double(point)
        scalar >>= 1
    return result


def _times_base(scalar):
    result = NEUTRAL
    for power in _base_powers():
        if scalar & 1:
            result = _add(result, power)
        scalar >>= 1
    return result


_powers = []


def _base_powers():
    """The base point times 2^0, 2^1 … 2^255; computed once."""
    if not _powers:
        y = 4 * pow(5, P - 2, P) % P
        point = _decompress(y.to_bytes(32, "little"))
        powers = []
        for _ in range(256):
            powers.append(point)
            point = _double(point)
        _powers.extend(powers)
    return _powers


def _same(one, other):
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (one[1] * other[2] - other[1] * one[2]) % P == 0


def _compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decompress(data):
    y = int.from_bytes(data, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P != 0:
        x = x * SQRT_MINUS_ONE % P
    if (x * x - square) % P != 0 or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)
