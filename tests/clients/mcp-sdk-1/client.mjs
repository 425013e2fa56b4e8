// The TypeScript SDK of the first generation: speaks the revisions up to 2025-11-25.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

import { play } from '../typescript/scenarios.mjs';

await play({
    transport: server => new StdioClientTransport(server),

    client(capabilities, elicit) {
        const client = new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { capabilities });
        if (elicit) client.setRequestHandler(ElicitRequestSchema, request => elicit(request.params));
        return client;
    },

    // This SDK does not tell: it is in the answer to `initialize`.
    protocolVersion: (_, wire) => wire.find(({ from }) => from === 'server').message.result.protocolVersion,

    call: (client, params, options) => client.callTool(params, undefined, options)
});
