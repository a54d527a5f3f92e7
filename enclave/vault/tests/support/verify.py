# Verifies a JWT with PyJWT. Standard input: JSON with jwks, token, audience and issuer. Writes the claims, or fails.
import json
import sys

import jwt

asked = json.load(sys.stdin)
try:
    key = jwt.PyJWKSet.from_dict(asked["jwks"])[jwt.get_unverified_header(asked["token"])["kid"]]
    claims = jwt.decode(
        asked["token"], key, algorithms=[key.algorithm_name], audience=asked["audience"], issuer=asked["issuer"],
        options={"require": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]},
    )
except (jwt.PyJWTError, KeyError) as error:
    sys.exit(type(error).__name__)
print(json.dumps(claims))
