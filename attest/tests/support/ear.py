# Verifies an attestation result with PyJWT. Standard input: JSON with alg, jwk and token. Writes what it says, or refuses.
import json
import sys

import jwt

asked = json.load(sys.stdin)
try:
    claims = jwt.decode(
        asked["token"], jwt.PyJWK(asked["jwk"]), algorithms=[asked["alg"]],
        options={"require": ["iat", "exp", "eat_profile", "eat_nonce", "ear_verifier_id", "submods"]},
    )
except jwt.PyJWTError as error:
    sys.exit(f"refused: {type(error).__name__}")
tpm = claims["submods"]["tpm"]
print(json.dumps({
    "profile": claims["eat_profile"],
    "nonce": claims["eat_nonce"],
    "status": tpm["ear_status"],
    "identity": tpm["ear_trustworthiness_vector"]["instance-identity"],
    "reference": tpm["ear_attester_claims"]["reference"],
}))
