# Verifies quotes of a TPM with the package cryptography. Standard input: a JSON list of objects with message, signature,
# public, challenge and pcrs in hexadecimal. Writes a list: null where it accepts, else why not.
import hashlib
import json
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

HASHES = {0x0004: hashes.SHA1(), 0x000B: hashes.SHA256(), 0x000C: hashes.SHA384()}
CURVES = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, count):
        taken, self.data = self.data[:count], self.data[count:]
        if len(taken) != count:
            raise ValueError("ends early")
        return taken

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def sized(self):
        return self.take(self.number("H"))


def read_key(public):
    kind, _name_alg, _attributes, _policy = public.number("H"), public.number("H"), public.number("I"), public.sized()
    if public.number("H") != 0x0010:
        public.take(4)
    if public.number("H") != 0x0010:
        public.take(2)
    if kind == 0x0001:
        _bits, exponent = public.number("H"), public.number("I") or 65537
        return rsa.RSAPublicNumbers(exponent, int.from_bytes(public.sized(), "big")).public_key()
    curve, _kdf = CURVES[public.number("H")], public.number("H")
    x, y = (int.from_bytes(public.sized(), "big") for _ in range(2))
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def verify(key, signature, message):
    scheme, digest = signature.number("H"), HASHES[signature.number("H")]
    if scheme == 0x0018:
        r, s = (int.from_bytes(signature.sized(), "big") for _ in range(2))
        key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(digest))
    elif scheme == 0x0014:
        key.verify(signature.sized(), message, padding.PKCS1v15(), digest)
    elif scheme == 0x0016:
        key.verify(signature.sized(), message, padding.PSS(padding.MGF1(digest), padding.PSS.AUTO), digest)
    else:
        raise ValueError("scheme")
    return digest


def judge(asked):
    message = bytes.fromhex(asked["message"])
    key = read_key(Reader(bytes.fromhex(asked["public"])))
    digest = verify(key, Reader(bytes.fromhex(asked["signature"])), message)
    quote = Reader(message)
    if quote.number("I") != 0xFF544347 or quote.number("H") != 0x8018:
        raise ValueError("no quote")
    _signer, challenge = quote.sized(), quote.sized()
    if challenge.hex() != asked["challenge"]:
        raise ValueError("challenge")
    _clock, _firmware = quote.take(17), quote.take(8)
    for _ in range(quote.number("I")):
        _bank, _bits = quote.number("H"), quote.take(quote.number("B"))
    if quote.sized() != hashlib.new(digest.name, bytes.fromhex(asked["pcrs"])).digest():
        raise ValueError("PCRs")


def outcome(asked):
    try:
        return judge(asked)
    except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


print(json.dumps([outcome(asked) for asked in json.load(sys.stdin)]))
