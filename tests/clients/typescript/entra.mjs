// A TypeScript client that brings tokens of Entra ID, for both generations of the SDK.
//
// A client folder supplies an SDK (see `play`). `URL` is the server, `EMULATOR` the endpoints of the emulator as JSON,
// `PROGRAMS` the folder with the programs of the documentation, and `PLAN` a plan in JSON: {service: {id, secret}} or
// {username}, and steps. A step is {list}, {call, arguments}, {control: [method, path, body]} for the emulator's
// control API, or {leave}: the person goes. The program ends by printing one line of JSON: the outcome of each step,
// the answers of the server, and the claims of the tokens.

import { pathToFileURL } from 'node:url';

import { ConfidentialClientApplication, PublicClientApplication } from '../msal-node/library.js';
import { Browser } from '../msal-node/browser.js';

const { URL: url, PROGRAMS } = process.env;
const EMULATOR = JSON.parse(process.env.EMULATOR);
const PLAN = JSON.parse(process.env.PLAN);

const { entraFetch, forPerson, forService } = await import(pathToFileURL(`${PROGRAMS}/entra-auth.mjs`));

const seen = { steps: [], requests: [], tokens: [] };

const plain = globalThis.fetch;

/** Notes the answers of the server, and the claims of the tokens that it got. */
globalThis.fetch = async (input, init) => {
    if (String(input) !== url) return plain(input, init);
    const payload = new Headers(init.headers).get('authorization').split('.')[1];
    const claims = JSON.parse(Buffer.from(payload, 'base64url'));
    if (!seen.tokens.some(one => one.uti === claims.uti)) seen.tokens.push(claims);
    const response = await plain(input, init);
    if (init.method === 'POST') {
        seen.requests.push({ status: response.status, challenge: response.headers.get('www-authenticate') });
    }
    return response;
};

const auth = {
    clientId: EMULATOR.public_client_id,
    authority: `${EMULATOR.authority}/${EMULATOR.tenant_id}`,
    knownAuthorities: [new URL(EMULATOR.authority).host]
};

let present = true;

/** Signs in at the page if the person is present. */
async function openBrowser(page) {
    if (!present) throw new Error('AbsentError');
    new Browser().signIn(page, PLAN.username).catch(error => console.error(error));
}

function acquire() {
    if (!PLAN.service) {
        return forPerson(new PublicClientApplication({ auth: { ...auth, clientCapabilities: ['cp1'] } }), openBrowser);
    }
    const { id, secret } = PLAN.service;
    return forService(new ConfidentialClientApplication({ auth: { ...auth, clientId: id, clientSecret: secret } }));
}

async function take(step, client) {
    if (step.control) {
        const [method, path, body] = step.control;
        const json = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
        const response = await plain(EMULATOR.control + path, { method, ...json });
        if (!response.ok) throw new Error(await response.text());
        return {};
    }
    if (step.leave) {
        present = false;
        return {};
    }
    if (step.list) return { tools: (await client.listTools()).tools.map(tool => tool.name) };
    return client.callTool({ name: step.call, arguments: step.arguments ?? {} });
}

/** Plays it. `sdk.transport(url, {fetch})` makes a transport, `sdk.client()` a client. */
export async function play(sdk) {
    const scope = PLAN.service ? '.default' : 'access_as_user';
    const fetch = entraFetch(acquire(), [`${url}/${scope}`]);
    const client = sdk.client();
    try {
        await client.connect(sdk.transport(new URL(url), { fetch }));
        for (const step of PLAN.steps) seen.steps.push(await take(step, client));
    } catch (error) {
        // The last step of a plan may fail; what comes of the others is in the results.
        seen.rejected = error.message;
    }
    console.log(JSON.stringify(seen));
    // A broken connection's attempts to come back would keep the process.
    process.exit(0);
}
