// What a TypeScript client does with a server behind the gate, for both generations of the SDK: the steps of a plan.
//
// A client folder supplies an SDK (see `play`). `URL` is the address, `PLAN` the JSON of a list of steps. With `OPENER`, a
// program that shows its argument to the person, the client signs in first; without, it meets the bare server. The
// program ends by printing one line of JSON: what came of each step, every HTTP request, and the tokens that the client
// held, which must be nowhere else.
//
// A step is one of
//   {list: 'tools'}, 'resources', 'resourceTemplates' or 'prompts'
//   {call: name, arguments}; with {cancel: true} it is given up as soon as it shows a sign of life
//   {read: uri}, {prompt: name, arguments}, {complete: {ref, argument}}, {subscribe: uri}, {unsubscribe: uri}
// and its outcome has what was answered or the error, the progress, and the methods of what the server asked meanwhile.

import { Callback, Provider, noting } from './remote.mjs';

/** How the client answers what the server asks. */
export const ANSWERS = {
    'roots/list': { roots: [{ uri: 'file:///work', name: 'work' }] },
    'sampling/createMessage': { model: 'none', role: 'assistant', content: { type: 'text', text: 'from the model' } },
    'elicitation/create': { action: 'accept', content: { name: 'Alice', username: 'alice', email: 'a@example.com' } }
};

const CAPABILITIES = { roots: { listChanged: true }, sampling: {}, elicitation: { form: {} } };

const LISTS = {
    tools: client => client.listTools(),
    resources: client => client.listResources(),
    resourceTemplates: client => client.listResourceTemplates(),
    prompts: client => client.listPrompts()
};

async function take(sdk, client, step, outcome) {
    if (step.list) return LISTS[step.list](client);
    if (step.call) {
        const abort = new AbortController();
        const onprogress = progress => {
            outcome.progress.push(progress);
            if (step.cancel) abort.abort('the user pressed stop');
        };
        return sdk.call(client, { name: step.call, arguments: step.arguments ?? {} }, { onprogress, signal: abort.signal });
    }
    if (step.read) return client.readResource({ uri: step.read });
    if (step.prompt) return client.getPrompt({ name: step.prompt, arguments: step.arguments });
    if (step.subscribe) return client.subscribeResource({ uri: step.subscribe });
    if (step.unsubscribe) return client.unsubscribeResource({ uri: step.unsubscribe });
    return client.complete(step.complete);
}

/** The status of the answer to a message of the session, once it has ended. */
async function afterwards(url, session, provider) {
    const headers = { accept: 'application/json, text/event-stream', 'content-type': 'application/json', 'mcp-session-id': session };
    if (provider) headers.authorization = `Bearer ${provider.current.access_token}`;
    const body = JSON.stringify({ jsonrpc: '2.0', id: 'afterwards', method: 'ping' });
    const response = await fetch(url, { method: 'POST', headers, body });
    await response.body?.cancel();
    return response.status;
}

/**
 * Plays the plan.
 *
 * `sdk.transport(url, {authProvider, fetch})` makes a transport, `sdk.client(capabilities)` a client, `sdk.handle(client,
 * method, handler)` lets it answer requests, `sdk.finish(transport, answer)` redeems the code in the parameters of the
 * callback, `sdk.protocolVersion(client, transport)` is what was agreed on, and `sdk.call(client, params, options)` calls.
 */
export async function play(sdk) {
    const seen = { errors: [], requests: [], steps: [] };
    const url = new URL(process.env.URL);
    const fetch = noting(seen.requests);
    const callback = process.env.OPENER && (await Callback.listen());
    const provider = callback && new Provider(callback.url);
    let asked = [];
    const make = () => {
        const client = sdk.client(CAPABILITIES);
        client.onerror = error => seen.errors.push(String(error));
        for (const [method, answer] of Object.entries(ANSWERS)) {
            sdk.handle(client, method, () => {
                asked.push(method);
                return answer;
            });
        }
        return [client, sdk.transport(url, { authProvider: provider, fetch })];
    };

    let [client, transport] = make();
    if (provider) {
        const rejection = await client.connect(transport).catch(error => error);
        if (rejection?.constructor.name !== 'UnauthorizedError') throw rejection ?? new Error('no person has signed in');
        await sdk.finish(transport, await callback.answer());
        callback.close();
        seen.errors.length = 0;
        [client, transport] = make();
    }
    await client.connect(transport);
    seen.protocolVersion = sdk.protocolVersion(client, transport);
    seen.server = client.getServerVersion();
    seen.capabilities = client.getServerCapabilities();
    seen.instructions = client.getInstructions();
    for (const step of JSON.parse(process.env.PLAN)) {
        const outcome = { progress: [], asked: [] };
        asked = outcome.asked;
        try {
            outcome.answer = await take(sdk, client, step, outcome);
        } catch (error) {
            outcome.error = step.cancel ? 'cancelled' : { code: error.code, message: error.message };
        }
        seen.steps.push(outcome);
    }

    const session = transport.sessionId;
    if (session) await transport.terminateSession();
    await client.close();
    const { access_token: access, refresh_token: refresh } = provider?.current ?? {};
    seen.tokens = [access, refresh].filter(token => token);
    if (session) seen.afterwards = await afterwards(url, session, provider);
    // A broken connection's attempts to come back would keep the process.
    process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
}
