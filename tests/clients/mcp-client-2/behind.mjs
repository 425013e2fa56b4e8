// The TypeScript SDK of the second generation with a server behind the gate. `ERA` is as in client.mjs.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { play } from '../typescript/behind.mjs';

const { ERA } = process.env;
const versionNegotiation = ERA && { mode: ERA === 'legacy' || ERA === 'auto' ? ERA : { pin: ERA } };

await play({
    transport: (url, options) => new StreamableHTTPClientTransport(url, options),

    client: capabilities =>
        new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { capabilities, versionNegotiation }),

    handle: (client, method, handler) => client.setRequestHandler(method, handler),

    finish: (transport, answer) => transport.finishAuth(answer),

    protocolVersion: client => client.getNegotiatedProtocolVersion(),

    call: (client, params, options) => client.callTool(params, options)
});
