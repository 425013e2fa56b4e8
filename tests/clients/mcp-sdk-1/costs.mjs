// What a team would write with the TypeScript SDK: a stateless server whose one tool answers without sending a request.
// With `http`, it stands behind the SDK's own check of bearer tokens with jose, and says on standard output where it
// listens; the second argument, JSON, is the issuer of the tokens that it accepts. With `stdio`, it speaks on standard
// input and output. The benchmark `running_costs` starts it.

import { setTimeout } from 'node:timers/promises';

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { importJWK, jwtVerify } from 'jose';
import * as z from 'zod/v4';

// Milliseconds that the tool takes: as long as Graph would.
const delay = Number(process.env.ENTRA_MCP_BENCH_TOOL_DELAY_MS ?? 0);

const profile = {
    displayName: 'Alice Anderson',
    mail: 'alice@contoso.example',
    userPrincipalName: 'alice@contoso.example'
};

function mcp() {
    const server = new McpServer({ name: 'costs', version: '1.0.0' });
    const outputSchema = { displayName: z.string(), mail: z.string(), userPrincipalName: z.string() };
    server.registerTool(
        'getUserDetails',
        { description: 'Get user details from Microsoft Graph', outputSchema },
        async () => {
            if (delay) await setTimeout(delay);
            return { content: [{ type: 'text', text: JSON.stringify(profile) }], structuredContent: profile };
        }
    );
    return server;
}

async function http(accepted) {
    const { issuer, audience, n, e } = accepted;
    const key = await importJWK({ kty: 'RSA', n, e }, 'RS256');
    const expected = { issuer, audience, algorithms: ['RS256'], requiredClaims: ['exp', 'nbf'] };
    const verifier = {
        async verifyAccessToken(token) {
            const { payload } = await jwtVerify(token, key, expected).catch(error => {
                throw new InvalidTokenError(String(error));
            });
            return { token, clientId: payload.azp, scopes: payload.scp.split(' '), expiresAt: payload.exp };
        }
    };
    const app = createMcpExpressApp();
    app.post('/mcp', requireBearerAuth({ verifier, requiredScopes: ['Mcp.Access'] }), async (request, response) => {
        // As the SDK's example of a stateless server: both are made for each request.
        const server = mcp();
        const options = { sessionIdGenerator: undefined, enableJsonResponse: true };
        const transport = new StreamableHTTPServerTransport(options);
        response.on('close', () => {
            transport.close();
            server.close();
        });
        await server.connect(transport);
        await transport.handleRequest(request, response, request.body);
    });
    const listening = app.listen(0, '127.0.0.1', () => {
        console.log(JSON.stringify({ url: `http://127.0.0.1:${listening.address().port}/mcp` }));
    });
    // A benchmark keeps its connections.
    listening.keepAliveTimeout = 0;
}

if (process.argv[2] === 'stdio') {
    await mcp().connect(new StdioServerTransport());
} else {
    await http(JSON.parse(process.argv[3]));
}
