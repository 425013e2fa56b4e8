"""What a Python client does with a server behind the gate: what ../typescript/behind.mjs does, with the same output.

One step more is `{"listen": true}`: it waits until the list of tools changes.

`ERA` is how the client negotiates: `auto` (its default), `legacy`, or the revision to insist on.
"""

import json
import os
import subprocess
import sys
import threading
from http.server import HTTPServer

import anyio
import httpx2
import mcp_types as types
from application import Callback, Storage
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from mcp.shared.exceptions import MCPError

URL = os.environ["URL"]

seen = {"errors": [], "requests": [], "steps": []}
# What the server has asked during the step.
asked = []


async def redirect(url):
    await anyio.run_process([os.environ["OPENER"], url], stdout=subprocess.DEVNULL)


async def callback():
    answer = await anyio.to_thread.run_sync(Callback.answers.get, abandon_on_cancel=True)
    return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))


class Noting(httpx2.AsyncHTTPTransport):
    """Notes every request, and the answer's status; never a secret."""

    # The last one, of which what comes afterwards is made.
    session = None

    async def handle_async_request(self, request):
        note = {"method": request.method, "path": request.url.path, "bearer": "authorization" in request.headers}
        seen["requests"].append(note)
        response = await super().handle_async_request(request)
        note["status"] = response.status_code
        self.session = response.headers.get("mcp-session-id", self.session)
        return response


async def sample(_context, _params):
    asked.append("sampling/createMessage")
    content = types.TextContent(type="text", text="from the model")
    return types.CreateMessageResult(model="none", role="assistant", content=content)


async def elicit(_context, _params):
    asked.append("elicitation/create")
    content = {"name": "Alice", "username": "alice", "email": "a@example.com"}
    return types.ElicitResult(action="accept", content=content)


async def list_roots(_context):
    asked.append("roots/list")
    return types.ListRootsResult(roots=[types.Root(uri="file:///work", name="work")])


def reference_of(ref):
    if ref["type"] == "ref/prompt":
        return types.PromptReference(type="ref/prompt", name=ref["name"])
    return types.ResourceTemplateReference(type="ref/resource", uri=ref["uri"])


async def take(client, step, outcome):
    if kind := step.get("list"):
        lists = {
            "tools": client.list_tools,
            "resources": client.list_resources,
            "resourceTemplates": client.list_resource_templates,
            "prompts": client.list_prompts,
        }
        return await lists[kind]()
    if name := step.get("call"):
        with anyio.CancelScope() as scope:

            async def note(progress, total, message):
                one = {"progress": progress, "total": total, "message": message}
                outcome["progress"].append({key: value for key, value in one.items() if value is not None})
                if step.get("cancel"):
                    scope.cancel("the user pressed stop")

            return await client.call_tool(name, step.get("arguments", {}), progress_callback=note)
        return "cancelled"
    if uri := step.get("read"):
        return await client.read_resource(uri)
    if name := step.get("prompt"):
        return await client.get_prompt(name, step.get("arguments"))
    if uri := step.get("subscribe"):
        return await client.subscribe_resource(uri)
    if uri := step.get("unsubscribe"):
        return await client.unsubscribe_resource(uri)
    if step.get("listen"):
        async with client.listen(tools_list_changed=True) as subscription:
            async for event in subscription:
                return {"event": type(event).__name__}
    return await client.complete(reference_of(step["complete"]["ref"]), step["complete"]["argument"])


def as_json(model):
    plain = model is None or isinstance(model, dict)
    return model if plain else model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def play(client):
    seen["protocolVersion"] = client.protocol_version
    seen["server"] = as_json(client.server_info)
    seen["capabilities"] = as_json(client.server_capabilities)
    seen["instructions"] = client.instructions
    for step in json.loads(os.environ["PLAN"]):
        asked.clear()
        outcome = {"progress": []}
        try:
            answer = await take(client, step, outcome)
            if answer == "cancelled":
                outcome["error"] = answer
            else:
                outcome["answer"] = as_json(answer)
        except MCPError as error:
            outcome["error"] = {"code": error.error.code, "message": error.error.message}
        outcome["asked"] = list(asked)
        seen["steps"].append(outcome)


async def afterwards(http, session):
    """The status of the answer to a message of the session, once it has ended."""
    headers = {"accept": "application/json, text/event-stream", "mcp-session-id": session}
    message = {"jsonrpc": "2.0", "id": "afterwards", "method": "ping"}
    return (await http.post(URL, json=message, headers=headers)).status_code


async def main():
    server = HTTPServer(("localhost", 0), Callback)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    metadata = OAuthClientMetadata(
        client_name="entra-mcp-tests",
        redirect_uris=[f"http://localhost:{server.server_port}/callback"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    storage, provider = Storage(), None
    if "OPENER" in os.environ:
        provider = OAuthClientProvider(URL, metadata, storage, redirect, callback)
    transport = Noting()
    http = httpx2.AsyncClient(transport=transport, auth=provider, timeout=None)
    callbacks = {"sampling_callback": sample, "elicitation_callback": elicit, "list_roots_callback": list_roots}
    mode = {"mode": era} if (era := os.environ.get("ERA")) else {}
    async with Client(streamable_http_client(URL, http_client=http), **callbacks, **mode) as client:
        await play(client)
    tokens = storage.tokens
    seen["tokens"] = [tokens.access_token, tokens.refresh_token] if tokens else []
    if transport.session:
        seen["afterwards"] = await afterwards(http, transport.session)
    print(json.dumps(seen))
    sys.stdout.flush()
    # A broken connection's attempts to come back would keep the process.
    os._exit(0)


anyio.run(main)
