// A TypeScript client that knows nothing of a remote server but its address, for both generations of the SDK:
// discovers, registers, signs in, calls, refreshes once its access token has expired, and revokes.
//
// A client folder supplies an SDK (see `play`). `URL` is the address; `OPENER` is a program that shows its argument to
// the person. With `CERTIFICATE` and `KEY`, files for localhost, the client does not register: its id is the address of
// a document that describes it. The program ends by printing one line of JSON: everything that the person and the model
// would see, and every HTTP request.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';

export const TOOL = { name: 'getUserDetails', arguments: {} };

/** The test's server issues tokens of a few seconds; a real one's hour is not waited for. */
const LONGEST_WAIT_SECONDS = 60;
/** How often the server is asked whether a token has expired. */
const BETWEEN_LOOKS_MS = 200;

/** The application's own web server, to which the browser brings the code. */
export class Callback {
    static async listen() {
        const callback = new Callback();
        callback.answers = [];
        callback.awaiting = [];
        callback.server = createServer((request, response) => {
            const answer = new URL(request.url, callback.url).searchParams;
            const next = callback.awaiting.shift();
            if (next) next(answer);
            else callback.answers.push(answer);
            response.setHeader('content-type', 'text/html');
            response.end('<title>The application</title><h1>You are signed in</h1>');
        });
        await new Promise(resolve => callback.server.listen(0, 'localhost', resolve));
        callback.url = `http://localhost:${callback.server.address().port}/callback`;
        return callback;
    }

    /** What the browser brings next, as soon as it does. */
    async answer() {
        return this.answers.shift() ?? new Promise(resolve => this.awaiting.push(resolve));
    }

    close() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

/** Keeps everything in memory; of a kind with the SDKs' examples. */
export class Provider {
    constructor(redirectUrl) {
        this.redirectUrl = redirectUrl;
        this.authorizations = 0;
        this.tokenSets = [];
        this.opens = true;
    }

    get clientMetadata() {
        return {
            client_name: 'entra-mcp-tests',
            redirect_uris: [this.redirectUrl],
            grant_types: ['authorization_code', 'refresh_token'],
            response_types: ['code'],
            token_endpoint_auth_method: 'none'
        };
    }

    state() {
        return (this.expectedState = randomBytes(16).toString('base64url'));
    }

    clientInformation() {
        return this.client;
    }

    saveClientInformation(client) {
        this.client = client;
    }

    tokens() {
        return this.current;
    }

    saveTokens(tokens) {
        this.current = tokens;
        this.tokenSets.push(tokens);
    }

    saveCodeVerifier(verifier) {
        this.verifier = verifier;
    }

    codeVerifier() {
        return this.verifier;
    }

    saveDiscoveryState(state) {
        this.discovery = state;
    }

    discoveryState() {
        return this.discovery;
    }

    invalidateCredentials(scope) {
        if (scope === 'all' || scope === 'tokens') this.current = undefined;
    }

    /** Returns when the person is done, as the opener does. */
    async redirectToAuthorization(url) {
        this.authorizations += 1;
        this.requested = Object.fromEntries(url.searchParams);
        if (this.opens) await new Promise((resolve, reject) => {
            execFile(process.env.OPENER, [url.href], error => (error ? reject(error) : resolve()));
        });
    }
}

/** Serves the document that describes a client, where its id says that it is. */
async function describe(provider, seen) {
    const { CERTIFICATE, KEY } = process.env;
    const server = createTlsServer({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) }, (request, response) => {
        seen.documents += 1;
        response.setHeader('content-type', 'application/json');
        response.setHeader('cache-control', 'max-age=300');
        response.end(JSON.stringify({ client_id: provider.clientMetadataUrl, ...provider.clientMetadata }));
    });
    await new Promise(resolve => server.listen(0, 'localhost', resolve));
    provider.clientMetadataUrl = `https://localhost:${server.address().port}/client.json`;
}

/** A `fetch` that notes what it is asked, and the answer's status; never a secret. */
export function noting(requests) {
    return async (input, init) => {
        const url = new URL(input instanceof Request ? input.url : input);
        const headers = new Headers(init?.headers);
        const note = { method: init?.method ?? 'GET', path: url.pathname, bearer: headers.has('authorization') };
        if (init?.body && String(headers.get('content-type')).includes('urlencoded')) {
            const form = new URLSearchParams(String(init.body));
            note.grant = form.get('grant_type') ?? undefined;
            note.resource = form.get('resource') ?? undefined;
            note.scope = form.get('scope') ?? undefined;
        }
        requests.push(note);
        const response = await fetch(input, init);
        note.status = response.status;
        return response;
    };
}

/** Waits until the server refuses a token. It expires by the server's clock, which this program cannot move. */
async function expired(url, token) {
    const authorization = `Bearer ${token}`;
    const ping = JSON.stringify({ jsonrpc: '2.0', id: 'still valid', method: 'ping' });
    const accept = 'application/json, text/event-stream';
    const post = { method: 'POST', body: ping, headers: { authorization, accept, 'content-type': 'application/json' } };
    // The token comes first, the kind of the answer second: no stream is opened, of which a client has only a few.
    const get = { headers: { authorization, accept: 'application/json' } };
    const [request, valid] = url.pathname.endsWith('/sse') ? [get, 406] : [post, 200];
    for (;;) {
        const response = await fetch(url, request);
        await response.body?.cancel();
        if (response.status === 401) return;
        assert.equal(response.status, valid);
        await delay(BETWEEN_LOOKS_MS);
    }
}

/**
 * Plays it.
 *
 * `sdk.transport(url, {authProvider, fetch})` makes a transport, `sdk.client()` a client, `sdk.finish(transport, answer)`
 * redeems the code in the parameters of the callback, and `sdk.protocolVersion(client, transport)` is what was agreed on.
 */
export async function play(sdk) {
    const seen = { errors: [], requests: [], results: [], documents: 0 };
    const url = new URL(process.env.URL);
    const fetch = noting(seen.requests);
    const callback = await Callback.listen();
    const provider = new Provider(callback.url);
    if (process.env.CERTIFICATE) await describe(provider, seen);
    const make = () => {
        const client = sdk.client();
        client.onerror = error => seen.errors.push(String(error));
        return [client, sdk.transport(url, { authProvider: provider, fetch })];
    };

    // The first attempt ends with a page for the person.
    const [stranger, refused] = make();
    const rejection = await stranger.connect(refused).then(
        () => assert.fail('no person has signed in'),
        error => error
    );
    assert.equal(rejection.constructor.name, 'UnauthorizedError', rejection.stack);
    const answer = await callback.answer();
    seen.answer = Object.fromEntries([...answer].map(([name, value]) => [name, name === 'code' ? 'code' : value]));
    assert.equal(answer.get('state'), provider.expectedState);
    delete seen.answer.state;
    await sdk.finish(refused, answer);
    seen.errors.length = 0;

    const [client, transport] = make();
    await client.connect(transport);
    seen.protocolVersion = sdk.protocolVersion(client, transport);
    seen.server = client.getServerVersion();
    seen.tools = (await client.listTools()).tools;
    seen.results.push(await client.callTool(TOOL));
    seen.results.push(await client.callTool(TOOL));

    // The client does not watch the time: it learns of the expiry from a 401, and calls again.
    const { expires_in: seconds } = provider.current;
    assert.ok(seconds > 0 && seconds <= LONGEST_WAIT_SECONDS, `expires_in is ${seconds}`);
    seen.expiresIn = seconds;
    await expired(url, provider.current.access_token);
    const before = provider.tokenSets.length;
    seen.results.push(await client.callTool(TOOL));
    seen.refreshes = provider.tokenSets.length - before;
    seen.tokenSets = provider.tokenSets.length;
    seen.distinctTokens = new Set(provider.tokenSets.flatMap(set => [set.access_token, set.refresh_token])).size;
    seen.errorsBeforeRevocation = seen.errors.splice(0);

    // Signing out is the application's own affair: no SDK has a method for it.
    const metadata = provider.discovery.authorizationServerMetadata;
    seen.issuer = metadata.issuer;
    const form = { token: provider.current.refresh_token, client_id: provider.client.client_id };
    const revoked = await fetch(metadata.revocation_endpoint, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString()
    });
    seen.revoked = revoked.status;
    provider.opens = false;
    seen.afterRevocation = await client.callTool(TOOL).then(
        result => ({ answered: result }),
        error => ({ rejected: error.constructor.name })
    );
    seen.authorizations = provider.authorizations;
    seen.requested = { scope: provider.requested.scope, resource: provider.requested.resource };

    await client.close();
    callback.close();
    console.log(JSON.stringify(seen));
    // A broken connection's attempts to come back would keep the process.
    process.exit(0);
}
