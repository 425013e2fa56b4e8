// The TypeScript SDK of the second generation with tokens that msal-node gets.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { play } from '../typescript/entra.mjs';

await play({
    transport: (url, options) => new StreamableHTTPClientTransport(url, options),

    client: () => new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
});
