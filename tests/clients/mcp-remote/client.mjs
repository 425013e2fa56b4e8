// mcp-remote between a remote server and a client that knows only standard input and output, as desktop applications
// configure it. `ARGUMENTS` is a list in JSON: the address, and flags. mcp-remote signs in, refreshes and stores
// tokens; this program sees only the file of tokens.

import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Client } from '../mcp-sdk-1/node_modules/@modelcontextprotocol/sdk/dist/esm/client/index.js';
import { StdioClientTransport } from '../mcp-sdk-1/node_modules/@modelcontextprotocol/sdk/dist/esm/client/stdio.js';

const TOOL = { name: 'getUserDetails', arguments: {} };
/** The bridge refreshes a token that has less than this left. */
const MARGIN_MS = 60_000;
const store = join(process.env.HOME, '.mcp-auth');

async function fileOf(name) {
    const files = (await readdir(store, { recursive: true })).filter(file => file.endsWith(name));
    if (files.length !== 1) throw new Error(`one ${name}, not ${files}`);
    return join(store, files[0]);
}

async function stored(name) {
    return JSON.parse(await readFile(await fileOf(name), 'utf8'));
}

const seen = { errors: [], results: [] };
const bridge = fileURLToPath(new URL('node_modules/mcp-remote/dist/proxy.js', import.meta.url));
const transport = new StdioClientTransport({
    command: process.execPath,
    args: [bridge, ...JSON.parse(process.env.ARGUMENTS)],
    env: process.env
});
const client = new Client({ name: 'entra-mcp-tests', version: '1.0.0' });
client.onerror = error => seen.errors.push(String(error));
await client.connect(transport);
seen.server = client.getServerVersion();
seen.tools = (await client.listTools()).tools;
seen.results.push(await client.callTool(TOOL));
seen.results.push(await client.callTool(TOOL));

const first = await stored('_tokens.json');
seen.expiresIn = first.expires_in;
// The bridge reads the file at every call, and looks there for when the token expires.
if (!(first.expires_at > Date.now() + MARGIN_MS)) throw new Error(`expires_at is ${first.expires_at}`);
await writeFile(await fileOf('_tokens.json'), JSON.stringify({ ...first, expires_at: Date.now() + MARGIN_MS }));
seen.results.push(await client.callTool(TOOL));
const second = await stored('_tokens.json');
seen.distinctTokens = new Set([first, second].flatMap(one => [one.access_token, one.refresh_token])).size;

const { client_id } = await stored('_client_info.json');
const metadata = await (await fetch(new URL('/.well-known/oauth-authorization-server', process.env.URL))).json();
const body = new URLSearchParams({ token: second.refresh_token, client_id });
seen.revoked = (await fetch(metadata.revocation_endpoint, { method: 'POST', body })).status;

// The bridge asks the person again.
seen.afterRevocation = await client.callTool(TOOL).then(
    result => ({ answered: result }),
    error => ({ rejected: String(error) })
);
await client.close();
console.log(JSON.stringify(seen));
