"""What a Python client does with the server: the scenarios of ../typescript/scenarios.mjs, with the same output.

`ERA` is how the client negotiates: `auto` (its default), `legacy`, or the revision to insist on.
"""

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import ElicitResult

TOOL = "GetUserDetailsFromGraph"

seen = {"wire": [], "errors": [], "elicitations": [], "progress": [], "results": []}


def as_json(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Recorded:
    """A stream of the transport that notes what passes through it."""

    def __init__(self, stream, side):
        self._stream = stream
        self._side = side

    def _note(self, item):
        if isinstance(item, Exception):
            seen["errors"].append(repr(item))
        else:
            seen["wire"].append({"from": self._side, "message": as_json(item.message)})
        return item

    async def receive(self):
        return self._note(await self._stream.receive())

    async def send(self, item):
        await self._stream.send(self._note(item))

    def __aiter__(self):
        return self

    async def __anext__(self):
        return self._note(await self._stream.__anext__())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()

    async def aclose(self):
        await self._stream.aclose()

    def __getattr__(self, name):
        return getattr(self._stream, name)


@asynccontextmanager
async def recorded(server):
    async with stdio_client(server) as (read, write):
        yield Recorded(read, "server"), Recorded(write, "client")


# What happens at the next elicitation, before it is answered.
elicited = None


async def show(text):
    await anyio.run_process([os.environ["OPENER"], text], stdout=subprocess.DEVNULL)


async def accept(_context, params):
    seen["elicitations"].append(as_json(params))
    if elicited:
        await elicited()
    await show(params.url)
    return ElicitResult(action="accept")


async def decline(_context, params):
    seen["elicitations"].append(as_json(params))
    return ElicitResult(action="decline")


async def note_progress(progress, total, message):
    seen["progress"].append({"progress": progress, "total": total, "message": message})


async def call(client, **options):
    return as_json(await client.call_tool(TOOL, {}, **options))


async def one_call(client):
    return [await call(client)]


async def call_with_progress(client):
    return [await call(client, progress_callback=note_progress)]


async def code(client):
    """Shows the person what the server says while it waits."""

    async def show_progress(progress, total, message):
        await note_progress(progress, total, message)
        if len(seen["progress"]) == 1:
            await show(message)

    return [await call(client, progress_callback=show_progress)]


async def cancel(client):
    """Gives the first call up as soon as it shows a sign of life, which it does while it waits for the person."""
    with anyio.CancelScope() as scope:

        async def give_up(*progress):
            await note_progress(*progress)
            scope.cancel("the user pressed stop")

        first = {"answered": await call(client, progress_callback=give_up)}
    if scope.cancelled_caught:
        first = {"rejected": "cancelled"}
    return [first, await call(client)]


async def abandon(client):
    """Gives the first call up when it asks the person."""
    global elicited
    with anyio.CancelScope() as scope:

        async def give_up():
            global elicited
            elicited = None
            scope.cancel("the user closed the question")
            await anyio.sleep_forever()

        elicited = give_up
        first = {"answered": await call(client)}
    if scope.cancelled_caught:
        first = {"rejected": "cancelled"}
    return [first, await call(client)]


async def together(client):
    results = []

    async def one():
        results.append(await call(client))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    return results


SCENARIOS = {
    "call": one_call,
    "progress": call_with_progress,
    "accept": one_call,
    "decline": one_call,
    "code": code,
    "cancel": cancel,
    "abandon": abandon,
    "together": together,
}
HANDLERS = {"accept": accept, "decline": decline, "abandon": accept}


async def main():
    name = sys.argv[1]
    server = StdioServerParameters(**json.loads(os.environ["SERVER"]))
    options = {"elicitation_callback": HANDLERS.get(name)}
    if era := os.environ.get("ERA"):
        options["mode"] = era
    async with Client(recorded(server), **options) as client:
        seen["protocolVersion"] = client.protocol_version
        # A client that insists on a revision does not ask for the server's name.
        seen["server"] = client.server_info and as_json(client.server_info)
        seen["instructions"] = client.instructions
        seen["tools"] = as_json(await client.list_tools())["tools"]
        seen["results"] = await SCENARIOS[name](client)
    print(json.dumps(seen))


anyio.run(main)
