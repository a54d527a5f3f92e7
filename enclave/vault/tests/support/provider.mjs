// An OAuth server on a port of its own. Reads one line of JSON: clients, resource, and for TLS chain and key.
// Writes its port and then serves until its standard input ends.
import { createServer as plain } from 'node:http';
import { createServer as encrypted } from 'node:https';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const lines = createInterface({ input: process.stdin });
const [line] = await once(lines, 'line');
const { clients, resource, tls } = JSON.parse(line);
let serve;
const listener = (request, response) => serve(request, response);
const server = tls ? encrypted({ cert: tls.chain, key: tls.key }, listener) : plain(listener);
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const scope = 'api:read api:write';
const provider = new Provider(`${tls ? 'https' : 'http'}://localhost:${server.address().port}`, {
  clients: clients.map((client) => ({
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope,
    ...client,
  })),
  scopes: scope.split(' '),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, asked) => {
        if (asked !== resource) throw new Error('unknown resource');
        return { scope, accessTokenTTL: 300, accessTokenFormat: 'opaque' };
      },
    },
  },
});
serve = provider.callback();
console.log(server.address().port);
lines.on('close', () => process.exit(0));
