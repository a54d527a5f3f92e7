"""The upstream of the quickstart: an API that demands a bearer token.

    upstream.py PORT_FILE SHA256 KEYS_URL AUDIENCE

/greeting  wants the one API key with this SHA-256 (in hexadecimal): the upstream itself need not hold it
/whoami    wants a JWT (ES256) for AUDIENCE, verified by openssl with the keys that the front publishes at KEYS_URL
"""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT_FILE, SHA256, KEYS_URL, AUDIENCE = sys.argv[1:]
# The SubjectPublicKeyInfo of a P-256 key, up to its two coordinates (RFC 5480).
P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def integer(number):
    number = number.lstrip(b"\0")
    number = b"\0" + number if number[0] & 0x80 else number
    return b"\x02" + bytes([len(number)]) + number


def claims(jwt):
    """What a JWT says, once its signature, audience and time were verified (RFC 7519)."""
    header, body, signature = jwt.split(".")
    asked = json.loads(decoded(header))
    if asked["alg"] != "ES256":
        raise ValueError("another algorithm")
    with urllib.request.urlopen(KEYS_URL, timeout=5) as keys:
        key = next(key for key in json.load(keys)["keys"] if key["kid"] == asked["kid"] and key["crv"] == "P-256")
    signature = decoded(signature)
    both = integer(signature[:32]) + integer(signature[32:])
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("key", P256 + decoded(key["x"]) + decoded(key["y"])),
                              ("signature", b"\x30" + bytes([len(both)]) + both)):
            with open(os.path.join(place, name), "wb") as file:
                file.write(content)
        subprocess.run(["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", "key", "-signature", "signature"],
                       cwd=place, input=f"{header}.{body}".encode(), check=True, stdout=subprocess.DEVNULL)
    said = json.loads(decoded(body))
    audiences = said["aud"] if isinstance(said["aud"], list) else [said["aud"]]
    if AUDIENCE not in audiences or said["exp"] < time.time():
        raise ValueError("for another audience, or its time is over")
    return said


class Upstream(BaseHTTPRequestHandler):
    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            if scheme != "Bearer":
                raise ValueError("no bearer token")
            if self.path == "/greeting":
                if not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), SHA256):
                    raise ValueError("another key")
                self.answer(200, "the upstream says hello to the holder of the API key")
            else:
                said = claims(token)
                self.answer(200, f"the upstream knows you as {said['sub']}, for {said['exp'] - said['iat']} s, by {said['iss']}")
        except Exception as error:  # whatever is wrong with a token: it is no good
            print(f"{self.path}: refused: {error!r}", file=sys.stderr)
            self.answer(401, "no")

    def answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
with open(PORT_FILE + ".new", "w", encoding="ascii") as file:
    file.write(str(server.server_port))
os.rename(PORT_FILE + ".new", PORT_FILE)
server.serve_forever()
