"""What a Python client does that brings tokens of Entra ID: what ../typescript/entra.mjs does, with the same output."""

import base64
import json
import os
import sys

import anyio
import httpx2
import msal
import requests
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.insert(0, os.environ["PROGRAMS"])

from entra_auth import EntraAuth, for_person, for_service

URL = os.environ["URL"]
EMULATOR = json.loads(os.environ["EMULATOR"])
PLAN = json.loads(os.environ["PLAN"])
AUTHORITY = {"authority": f"{EMULATOR['authority']}/{EMULATOR['tenant_id']}", "instance_discovery": False}

seen = {"steps": [], "requests": [], "tokens": []}


class Noting(httpx2.AsyncHTTPTransport):
    """Notes the answers to requests, and the claims of the tokens in them."""

    async def handle_async_request(self, request):
        token = request.headers["authorization"].removeprefix("Bearer ")
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if claims not in seen["tokens"]:
            seen["tokens"].append(claims)
        response = await super().handle_async_request(request)
        if request.method == "POST":
            challenge = response.headers.get("www-authenticate")
            seen["requests"].append({"status": response.status_code, "challenge": challenge})
        return response


class AbsentError(Exception):
    """No person is there to sign in."""


def absent(*_, **__):
    raise AbsentError


def person():
    return msal.PublicClientApplication(EMULATOR["public_client_id"], client_capabilities=["cp1"], **AUTHORITY)


def service(one):
    return msal.ConfidentialClientApplication(one["id"], client_credential=one["secret"], **AUTHORITY)


def innermost(error):
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def take(step, app, client):
    if control := step.get("control"):
        method, path, body = control
        await anyio.to_thread.run_sync(
            lambda: requests.request(method, EMULATOR["control"] + path, json=body, timeout=None).raise_for_status()
        )
        return {}
    if "leave" in step:
        app.acquire_token_interactive = absent
        return {}
    if "list" in step:
        return {"tools": [tool.name for tool in (await client.list_tools()).tools]}
    result = await client.call_tool(step["call"], step.get("arguments", {}))
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main():
    if "service" in PLAN:
        app = service(PLAN["service"])
        auth = EntraAuth(for_service(app), [f"{URL}/.default"])
    else:
        app = person()
        auth = EntraAuth(for_person(app), [f"{URL}/access_as_user"])
    http = httpx2.AsyncClient(auth=auth, transport=Noting(), timeout=None)
    try:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            for step in PLAN["steps"]:
                seen["steps"].append(await take(step, app, client))
    except Exception as error:
        # The last step of a plan may fail; what comes of the others is in the results.
        seen["rejected"] = str(innermost(error)) or type(innermost(error)).__name__
    print(json.dumps(seen))
    sys.stdout.flush()
    # A broken connection's attempts to come back would keep the process.
    os._exit(0)


anyio.run(main)
