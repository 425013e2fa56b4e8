// Preloaded into the conformance suite, which sends no token: adds one to what it sends to the server under test.
//
// `TOKEN` is the token, `URL` the server. The suite uses Node's fetch and undici, which share one dispatcher, and in one
// place `http.request`, for headers that the others would correct.

import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The suite's own undici, whichever release of the suite this is.
const { getGlobalDispatcher, setGlobalDispatcher } = createRequire(pathToFileURL(process.argv[1]))('undici');
const { TOKEN, URL: SERVER } = process.env;
const server = new URL(SERVER);

/** Headers are a flat list, an object, or something to iterate over. */
function withToken(headers) {
    const pairs = Array.isArray(headers)
        ? headers.length && Array.isArray(headers[0])
            ? headers
            : headers.flatMap((name, index) => (index % 2 ? [] : [[name, headers[index + 1]]]))
        : headers?.[Symbol.iterator]
          ? [...headers]
          : Object.entries(headers ?? {});
    const authorized = pairs.some(([name]) => String(name).toLowerCase() === 'authorization');
    return (authorized ? pairs : [...pairs, ['authorization', `Bearer ${TOKEN}`]]).flat();
}

setGlobalDispatcher(
    getGlobalDispatcher().compose(dispatch => (options, handler) => {
        const url = new URL(options.path, options.origin);
        const ours = url.origin === server.origin && url.pathname === server.pathname;
        return dispatch(ours ? { ...options, headers: withToken(options.headers) } : options, handler);
    })
);

const { request } = http;
http.request = (options, ...rest) => {
    const ours = options.hostname === server.hostname && String(options.port) === server.port;
    const headers = { authorization: `Bearer ${TOKEN}`, ...options.headers };
    return request(ours ? { ...options, headers } : options, ...rest);
};
