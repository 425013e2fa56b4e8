// What a TypeScript client does with the server, for both generations of the SDK.
//
// A client folder supplies an SDK (see `play`). The scenario is the first argument; `SERVER` is the JSON of
// {command, args, env}; `OPENER` is a program that shows its argument to the person. The last thing printed is one line
// of JSON: what the person and the model would see, the whole wire, and how the server process ended.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const TOOL = 'GetUserDetailsFromGraph';

/** Each scenario takes a connected client and returns the results of its calls. */
const scenarios = {
    async call(session) {
        return [await session.call()];
    },

    async progress(session) {
        return [await session.call({ onprogress: session.onprogress })];
    },

    /** What the server says while it waits is shown to the person. */
    async code(session) {
        const onprogress = progress => {
            if (session.onprogress(progress) === 1) return show(progress.message);
        };
        return [await session.call({ onprogress })];
    },

    async accept(session) {
        return [await session.call()];
    },

    async decline(session) {
        return [await session.call()];
    },

    /** The first call is given up as soon as it shows a sign of life, which it does while it waits for the person. */
    async cancel(session) {
        const abort = new AbortController();
        const onprogress = progress => {
            session.onprogress(progress);
            abort.abort('the user pressed stop');
        };
        const first = await outcome(session.call({ onprogress, signal: abort.signal }));
        return [first, await session.call()];
    },

    /** The first call is given up when it asks the person; the question is never answered. */
    async abandon(session) {
        const abort = new AbortController();
        session.onelicit = () => {
            session.onelicit = undefined;
            abort.abort('the user closed the question');
            return new Promise(() => {});
        };
        // The second generation of the SDK goes on waiting for the answer.
        const closed = new Promise(resolve => {
            abort.signal.onabort = () => resolve({ rejected: abort.signal.reason });
        });
        const first = await Promise.race([outcome(session.call({ signal: abort.signal })), closed]);
        return [first, await session.call()];
    },

    async together(session) {
        return Promise.all([session.call(), session.call()]);
    }
};

const outcome = call =>
    call.then(
        result => ({ answered: result }),
        error => ({ rejected: String(error) })
    );

const show = text => promisify(execFile)(process.env.OPENER, [text]);

async function accept({ url }) {
    await show(url);
    return { action: 'accept' };
}

const decline = async () => ({ action: 'decline' });

/** What the client's handler of an elicitation does. Without one the client does not declare the capability. */
const handlers = { accept, decline, abandon: accept };

/**
 * Plays the scenario that the command line asks for.
 *
 * `sdk.transport(server)` makes a transport, `sdk.client(capabilities, elicit)` a client, and
 * `sdk.call(client, params, options)` calls a tool; `sdk.protocolVersion(client, wire)` is what was agreed on.
 */
export async function play(sdk) {
    const name = process.argv[2];
    const seen = { wire: [], errors: [], elicitations: [], progress: [] };

    const transport = sdk.transport(JSON.parse(process.env.SERVER));
    transport.onmessage = message => seen.wire.push({ from: 'server', message });
    const send = transport.send.bind(transport);
    transport.send = (message, ...rest) => {
        seen.wire.push({ from: 'client', message });
        return send(message, ...rest);
    };

    const session = {
        onprogress: progress => seen.progress.push(progress),
        call: options => sdk.call(client, { name: TOOL, arguments: {} }, options)
    };
    const handler = handlers[name];
    const elicit =
        handler &&
        (params => {
            seen.elicitations.push(params);
            return (session.onelicit ?? handler)(params);
        });
    const client = sdk.client(elicit ? { elicitation: { url: {} } } : {}, elicit);
    client.onerror = error => seen.errors.push(String(error));

    await client.connect(transport);
    seen.protocolVersion = sdk.protocolVersion(client, seen.wire);
    seen.server = client.getServerVersion();
    seen.instructions = client.getInstructions();
    seen.tools = (await client.listTools()).tools;

    seen.results = await scenarios[name](session);

    // The SDKs do not tell how the process ended, and kill it when it takes too long.
    const server = transport._process;
    const exited = new Promise(resolve => server.once('exit', (code, signal) => resolve({ code, signal })));
    await client.close();
    seen.exit = await exited;
    console.log(JSON.stringify(seen));
}
