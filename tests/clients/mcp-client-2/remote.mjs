// The TypeScript SDK of the second generation with a remote server. `ERA` is as in client.mjs; `TRANSPORT` is `http` or
// `sse`.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { play } from '../typescript/remote.mjs';

const { ERA } = process.env;
const versionNegotiation = ERA && { mode: ERA === 'legacy' || ERA === 'auto' ? ERA : { pin: ERA } };
const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[process.env.TRANSPORT];

await play({
    transport: (url, options) => new Transport(url, options),

    client: () => new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { versionNegotiation }),

    finish: (transport, answer) => transport.finishAuth(answer),

    protocolVersion: client => client.getNegotiatedProtocolVersion()
});
