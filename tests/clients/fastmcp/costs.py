"""What a team would write with FastMCP: a stateless server whose one tool answers without sending a request.

`costs.py jwt ISSUER` accepts access tokens of Entra ID with FastMCP's `JWTVerifier`; `ISSUER`, JSON, says which.
`costs.py azure SITE` has clients sign in through `AzureProvider`; `SITE`, JSON, says where Entra ID is, for which
application, and at which port to listen. Both say on standard output where they listen. `costs.py stdio` speaks on
standard input and output. The benchmark `running_costs` starts them.
"""

import asyncio
import base64
import json
import os
import sys

from fastmcp import FastMCP
from pydantic import BaseModel


# Milliseconds that the tool takes: as long as Graph would.
DELAY_MS = int(os.environ.get("ENTRA_MCP_BENCH_TOOL_DELAY_MS", "0"))


class Profile(BaseModel):
    displayName: str
    mail: str
    userPrincipalName: str


PROFILE = Profile(
    displayName="Alice Anderson", mail="alice@contoso.example", userPrincipalName="alice@contoso.example"
)


def server(auth=None):
    mcp = FastMCP("costs", version="1.0.0", auth=auth)

    @mcp.tool(name="getUserDetails")
    async def get_user_details() -> Profile:
        """Get user details from Microsoft Graph"""
        if DELAY_MS:
            await asyncio.sleep(DELAY_MS / 1000)
        return PROFILE

    return mcp


def pem(n, e):
    """The key of modulus and exponent as in a key document."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    number = lambda text: int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")
    key = rsa.RSAPublicNumbers(number(e), number(n)).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def jwt(accepted):
    from fastmcp.server.auth.providers.jwt import JWTVerifier

    return JWTVerifier(
        public_key=pem(accepted["n"], accepted["e"]),
        issuer=accepted["issuer"],
        audience=accepted["audience"],
        algorithm="RS256",
        required_scopes=["Mcp.Access"],
    )


def azure(site):
    from fastmcp.server.auth.providers.azure import AzureProvider

    host = site["authority"].split("://")[1]
    provider = AzureProvider(
        client_id=site["client_id"],
        client_secret=site["client_secret"],
        tenant_id=site["tenant_id"],
        required_scopes=["Mcp.Access"],
        base_url=f"http://localhost:{site['port']}",
        base_authority=host,
        token_issuer=site["issuer"],
        require_authorization_consent=False,
        extra_authorize_params={},
    )
    # The emulator speaks plain HTTP here, and the provider knows nothing but https.
    base = f"{site['authority']}/{site['tenant_id']}"
    provider._upstream_authorization_endpoint = f"{base}/oauth2/v2.0/authorize"
    provider._upstream_token_endpoint = f"{base}/oauth2/v2.0/token"
    provider._token_validator.jwks_uri = f"{base}/discovery/v2.0/keys"
    return provider


async def http(mcp, port, host="127.0.0.1"):
    import uvicorn

    app = mcp.http_app(stateless_http=True, json_response=True)
    # A benchmark keeps its connections, and a line of log for each request is nothing that the others write.
    config = uvicorn.Config(app, port=port, log_level="error", access_log=False, timeout_keep_alive=3600)
    listening = uvicorn.Server(config)
    serving = asyncio.create_task(listening.serve())
    while not listening.started:
        await asyncio.sleep(0.001)
    port = listening.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://{host}:{port}/mcp"}), flush=True)
    await serving


match sys.argv[1]:
    case "stdio":
        server().run(transport="stdio", show_banner=False)
    case "jwt":
        asyncio.run(http(server(jwt(json.loads(sys.argv[2]))), 0))
    case "azure":
        site = json.loads(sys.argv[2])
        asyncio.run(http(server(azure(site)), site["port"], "localhost"))
