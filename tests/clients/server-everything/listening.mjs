// Preloaded into the server, which listens on a fixed port of every interface: lets it listen on a free port of the
// loopback interface, and say which on standard output. `RECORD` is a file to which the path and the header fields of every
// request are appended, one line of JSON each.

import { appendFileSync } from 'node:fs';
import { Server } from 'node:http';

const { RECORD } = process.env;
const { listen } = Server.prototype;

function record({ url, rawHeaders }) {
    const fields = rawHeaders.flatMap((name, at) => (at % 2 ? [] : [[name.toLowerCase(), rawHeaders[at + 1]]]));
    appendFileSync(RECORD, `${JSON.stringify([[':path', url], ...fields])}\n`);
}

Server.prototype.listen = function (_port, ...rest) {
    this.on('listening', () => console.log(JSON.stringify({ port: this.address().port })));
    if (RECORD) this.prependListener('request', record);
    return listen.call(this, 0, '127.0.0.1', ...rest);
};
