"""What a Python client does with a remote server: what ../typescript/remote.mjs does, with the same output.

`ERA` is how the client negotiates: `auto` (its default), `legacy`, or the revision to insist on. `TRANSPORT` is `http`, or
`sse` for the transport that the revision of 2024-11-05 had.
With `CERTIFICATE` and `KEY` the client is described by a document, as there. With `CLIENT_ID` it is registered at Entra ID
under that id, signs in there and only calls; `STEP_UP` is then a tool that needs more scopes, if there is one.
"""

import json
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, parse_qsl, urlsplit

import anyio
import httpx2
from application import Callback, Storage
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata

TOOL = "getUserDetails"
# The test's server issues tokens of a few seconds; a real one's hour is not waited for.
LONGEST_WAIT_SECONDS = 60
# How often this looks whether the SDK takes its token for expired.
BETWEEN_LOOKS_SECONDS = 0.2

seen = {"errors": [], "requests": [], "results": [], "authorizations": 0, "documents": 0}


def describe(metadata):
    """Serves the document that describes a client; returns its address, which is the client's id."""

    class Document(BaseHTTPRequestHandler):
        def do_GET(self):
            seen["documents"] += 1
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("cache-control", "max-age=300")
            document = json.dumps({"client_id": address} | as_json(metadata)).encode()
            self.send_header("content-length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_):
            pass

    server = HTTPServer(("localhost", 0), Document)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_port}/client.json"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return address


class UnauthorizedError(Exception):
    """The application does not want the person to be asked again."""


opens = True


async def redirect(url):
    seen["authorizations"] += 1
    asked = parse_qs(urlsplit(url).query)
    seen["requested"] = {name: asked.get(name, [None])[0] for name in ("scope", "resource")}
    seen["challengeMethod"] = asked.get("code_challenge_method", [None])[0]
    if not opens:
        raise UnauthorizedError
    await anyio.run_process([os.environ["OPENER"], url], stdout=subprocess.DEVNULL)


async def callback():
    answer = await anyio.to_thread.run_sync(Callback.answers.get, abandon_on_cancel=True)
    seen["answer"] = {name: answer.get(name) and (name if name == "code" else answer[name]) for name in ("code", "iss")}
    return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))


class Noting(httpx2.AsyncHTTPTransport):
    """Notes every request, and the answer's status; never a secret."""

    async def handle_async_request(self, request):
        note = {
            "method": request.method,
            "path": request.url.path,
            "bearer": "authorization" in request.headers,
        }
        if "urlencoded" in request.headers.get("content-type", ""):
            form = dict(parse_qsl((await request.aread()).decode()))
            note |= {key: form[name] for key, name in FORM.items() if name in form}
        seen["requests"].append(note)
        response = await super().handle_async_request(request)
        note["status"] = response.status_code
        return response


FORM = {"grant": "grant_type", "resource": "resource", "scope": "scope"}


def as_json(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def innermost(error):
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def after_revocation(transport, options):
    """A new connection: a failed sign-in ends one."""
    async with Client(transport(), **options) as client:
        return as_json(await client.call_tool(TOOL, {}))


async def main():
    global opens
    url = os.environ["URL"]
    server = HTTPServer(("localhost", 0), Callback)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    storage = Storage()
    metadata = OAuthClientMetadata(
        client_name="entra-mcp-tests",
        redirect_uris=[f"http://localhost:{server.server_port}/callback"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    if client_id := os.environ.get("CLIENT_ID"):
        storage.client = OAuthClientInformationFull(client_id=client_id, **as_json(metadata))
    document = describe(metadata) if "CERTIFICATE" in os.environ else None
    provider = OAuthClientProvider(url, metadata, storage, redirect, callback, client_metadata_url=document)

    def http_client(headers=None, timeout=None, auth=None):
        return httpx2.AsyncClient(transport=Noting(), auth=provider, headers=headers, timeout=timeout)

    def transport():
        if os.environ["TRANSPORT"] == "sse":
            return sse_client(url, httpx_client_factory=http_client)
        return streamable_http_client(url, http_client=http_client())

    options = {}
    if era := os.environ.get("ERA"):
        options["mode"] = era
    async with Client(transport(), **options) as client:
        seen["protocolVersion"] = client.protocol_version
        seen["server"] = client.server_info and as_json(client.server_info)
        seen["tools"] = as_json(await client.list_tools())["tools"]
        seen["results"].append(as_json(await client.call_tool(TOOL, {})))
        seen["results"].append(as_json(await client.call_tool(TOOL, {})))

        if client_id:
            seen["metadata"] = as_json(provider.context.oauth_metadata)
            seen["tokenParts"] = len(storage.tokens.access_token.split("."))
            seen["refreshToken"] = bool(storage.tokens.refresh_token)
            if step_up := os.environ.get("STEP_UP"):
                first = seen["requested"]
                seen["steppedUp"] = as_json(await client.call_tool(step_up, {}))
                seen["requested"], seen["requestedThen"] = first, seen["requested"]
                seen["results"].append(as_json(await client.call_tool(TOOL, {})))
            return done()

        # This SDK watches the time, and refreshes before it calls.
        seconds = storage.tokens.expires_in
        assert 0 < seconds <= LONGEST_WAIT_SECONDS, f"expires_in is {seconds}"
        seen["expiresIn"] = seconds
        while provider.context.is_token_valid():
            await anyio.sleep(BETWEEN_LOOKS_SECONDS)
        before = len(storage.token_sets)
        seen["results"].append(as_json(await client.call_tool(TOOL, {})))
        seen["refreshes"] = len(storage.token_sets) - before
        seen["tokenSets"] = len(storage.token_sets)
        tokens = {token for one in storage.token_sets for token in (one.access_token, one.refresh_token)}
        seen["distinctTokens"] = len(tokens)
        seen["errorsBeforeRevocation"] = []

        # Signing out is the application's own affair: the SDK has no method for it.
        issued_by = provider.context.oauth_metadata
        seen["issuer"] = str(issued_by.issuer)
        form = {"token": storage.tokens.refresh_token, "client_id": storage.client.client_id}
        async with httpx2.AsyncClient() as plain:
            seen["revoked"] = (await plain.post(str(issued_by.revocation_endpoint), data=form)).status_code
    opens = False
    try:
        seen["afterRevocation"] = {"answered": await after_revocation(transport, options)}
    except Exception as error:
        seen["afterRevocation"] = {"rejected": type(innermost(error)).__name__}
    done()


def done():
    print(json.dumps(seen))
    sys.stdout.flush()
    # A broken connection's attempts to come back would keep the process.
    os._exit(0)


anyio.run(main)
