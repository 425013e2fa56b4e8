// The TypeScript SDK of the first generation with a server behind the gate.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

import { play } from '../typescript/behind.mjs';

const SCHEMAS = {
    'roots/list': ListRootsRequestSchema,
    'sampling/createMessage': CreateMessageRequestSchema,
    'elicitation/create': ElicitRequestSchema
};

await play({
    transport: (url, options) => new StreamableHTTPClientTransport(url, options),

    client: capabilities => new Client({ name: 'entra-mcp-tests', version: '1.0.0' }, { capabilities }),

    handle: (client, method, handler) => client.setRequestHandler(SCHEMAS[method], handler),

    finish: (transport, answer) => transport.finishAuth(answer.get('code')),

    // The SDK tells the transport alone.
    protocolVersion: (_, transport) => transport.protocolVersion,

    call: (client, params, options) => client.callTool(params, undefined, options)
});
