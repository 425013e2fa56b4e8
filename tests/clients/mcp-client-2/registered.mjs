// The TypeScript SDK of the second generation with a client id that is registered at Entra ID: signs in there, and calls a
// remote server with the token from Entra ID. `CLIENT_ID` is the id; without it the client registers at the server and
// gets a session of the server. `STEP_UP` is a tool that needs more scopes, if there is one. `URL` and `OPENER` are as
// in ../typescript/remote.mjs.

import assert from 'node:assert/strict';

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { Callback, Provider, TOOL } from '../typescript/remote.mjs';

const seen = { results: [] };
const url = new URL(process.env.URL);
const callback = await Callback.listen();
const provider = new Provider(callback.url);
if (process.env.CLIENT_ID) provider.client = { client_id: process.env.CLIENT_ID };
const make = () => [
    new Client({ name: 'entra-mcp-tests', version: '1.0.0' }),
    new StreamableHTTPClientTransport(url, { authProvider: provider })
];

/** The SDK sends the person to sign in, and stops; this finishes what it began. */
async function signIn(begun, transport) {
    const rejection = await begun.then(
        () => assert.fail('no person has signed in'),
        error => error
    );
    assert.equal(rejection.constructor.name, 'UnauthorizedError', rejection.stack);
    const answer = await callback.answer();
    assert.ok(answer.has('code'), `the browser brought ${answer}`);
    assert.equal(answer.get('state'), provider.expectedState);
    await transport.finishAuth(answer);
}

const [stranger, refused] = make();
await signIn(stranger.connect(refused), refused);

const [client, transport] = make();
await client.connect(transport);
seen.tools = (await client.listTools()).tools;
seen.results.push(await client.callTool(TOOL));
seen.results.push(await client.callTool(TOOL));
seen.metadata = provider.discovery.authorizationServerMetadata;
seen.requested = provider.requested;
seen.challengeMethod = provider.requested.code_challenge_method;
seen.tokenParts = provider.current.access_token.split('.').length;
seen.refreshToken = Boolean(provider.current.refresh_token);
const { STEP_UP } = process.env;
if (STEP_UP) {
    await signIn(client.callTool({ name: STEP_UP, arguments: {} }), transport);
    seen.steppedUp = await client.callTool({ name: STEP_UP, arguments: {} });
    seen.requestedThen = provider.requested;
    seen.results.push(await client.callTool(TOOL));
}
await client.close();
callback.close();
console.log(JSON.stringify(seen));
process.exit(0);
