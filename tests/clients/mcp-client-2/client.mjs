// The TypeScript SDK of the second generation. `ERA` is how it negotiates: `legacy` (its default), `auto`, or the revision
// to insist on.

import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

import { play } from '../typescript/scenarios.mjs';

const { ERA } = process.env;
const versionNegotiation = ERA && { mode: ERA === 'legacy' || ERA === 'auto' ? ERA : { pin: ERA } };

await play({
    transport: server => new StdioClientTransport(server),

    client(capabilities, elicit) {
        const client = new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { capabilities, versionNegotiation });
        if (elicit) client.setRequestHandler('elicitation/create', request => elicit(request.params));
        return client;
    },

    protocolVersion: client => client.getNegotiatedProtocolVersion(),

    call: (client, params, options) => client.callTool(params, options)
});
