// Verifies a JWT with jose. Standard input: JSON with jwks, token, audience and issuer. Writes the claims, or fails.
import { createLocalJWKSet, jwtVerify } from 'jose';
import { readFileSync } from 'node:fs';

const { jwks, token, audience, issuer } = JSON.parse(readFileSync(0, 'utf8'));
try {
  const { payload } = await jwtVerify(token, createLocalJWKSet(jwks), {
    audience, issuer, typ: 'JWT', requiredClaims: ['iss', 'sub', 'aud', 'iat', 'nbf', 'exp', 'jti'],
  });
  console.log(JSON.stringify(payload));
} catch (error) {
  console.error(error.code);
  process.exit(1);
}
