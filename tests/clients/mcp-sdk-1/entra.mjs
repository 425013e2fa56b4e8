// The TypeScript SDK of the first generation with tokens that msal-node gets.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { play } from '../typescript/entra.mjs';

await play({
    transport: (url, options) => new StreamableHTTPClientTransport(url, options),

    client: () => new Client({ name: 'entra-mcp-tests', version: '1.0.0' })
});
