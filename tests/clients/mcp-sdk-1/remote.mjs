// The TypeScript SDK of the first generation with a remote server. `TRANSPORT` is `http`, or `sse` for the transport that
// the revision of 2024-11-05 had.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { play } from '../typescript/remote.mjs';

const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[process.env.TRANSPORT];

await play({
    transport: (url, options) => new Transport(url, options),

    client: () => new Client({ name: 'entra-mcp-tests', version: '1.0.0' }),

    finish: (transport, answer) => transport.finishAuth(answer.get('code')),

    // The SDK tells the transport alone.
    protocolVersion: (_, transport) => transport.protocolVersion ?? transport._protocolVersion
});
