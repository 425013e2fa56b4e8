"""Signs in at the emulator with Microsoft's own library for Python, unmodified, over https.

EMULATOR holds the emulator's endpoints as JSON; REQUESTS_CA_BUNDLE its certificate authority.
"""

import base64
import json
import os
import pathlib
import re
import sys
import time
import unittest
from unittest import mock

import msal
import requests

from browser import Browser

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE / "../../fixtures"
EMULATOR = json.loads(os.environ["EMULATOR"])
AUTHORITY = f"{EMULATOR['authority']}/{EMULATOR['tenant_id']}"
PUBLIC = EMULATOR["public_client_id"]
CONFIDENTIAL = EMULATOR["confidential_client_id"]
SECRET = EMULATOR["client_secret"]
TASKS = "a0000000-0000-4000-a000-000000000003"
VAULT = "a0000000-0000-4000-a000-000000000006"
FABRIKAM_APP = "a0000000-0000-4000-a000-00000000000b"
ALICE = "alice@contoso.example"
STELLA = "stella@contoso.example"
CONNIE = "connie@contoso.example"
REDIRECT = "http://localhost:54321"
GRAPH = ["User.Read"]
MCP = [f"api://{CONFIDENTIAL}/Mcp.Access"]


def control(method, path, body=None):
    response = requests.request(method, EMULATOR["control"] + path, json=body, timeout=None)
    response.raise_for_status()
    return response.json()


def me(token):
    return requests.get(f"{EMULATOR['graph']}/v1.0/me", headers={"Authorization": f"Bearer {token}"}, timeout=None)


def public(client_id=PUBLIC, authority=AUTHORITY, **more):
    return msal.PublicClientApplication(client_id, authority=authority, instance_discovery=False, **more)


def confidential(credential=SECRET, authority=AUTHORITY, **more):
    return msal.ConfidentialClientApplication(
        CONFIDENTIAL, authority=authority, client_credential=credential, instance_discovery=False, **more
    )


def interactive(app, username=ALICE, scopes=GRAPH, **more):
    """The real interactive call, with a real process as the browser."""
    environment = {"BROWSER": f"{sys.executable} {HERE / 'browser.py'} %s &", "SIGN_IN_AS": username}
    with mock.patch.dict(os.environ, environment):
        import webbrowser

        webbrowser._tryorder = None  # it reads BROWSER once per process
        return app.acquire_token_interactive(scopes, timeout=None, **more)


def by_code_flow(app, username=ALICE, scopes=GRAPH, **more):
    """A code flow whose answer is left to the caller to redeem."""
    flow = app.initiate_auth_code_flow(scopes, redirect_uri=REDIRECT, **more)
    address = Browser().sign_in(flow["auth_uri"], username, stay=True)
    query = requests.utils.urlparse(address).query
    return flow, dict(pair.split("=", 1) for pair in query.split("&"))


def redeem(app, flow, answer):
    decoded = {name: requests.utils.unquote(value.replace("+", " ")) for name, value in answer.items()}
    return app.acquire_token_by_auth_code_flow(flow, decoded)


class Msal(unittest.TestCase):
    def setUp(self):
        control("DELETE", "/faults")
        control("POST", "/device-codes", {"interval": 1})
        for user in (ALICE, STELLA):
            control("POST", f"/users/{user}", {"must": "step-up-for-protected" if user == STELLA else "nothing"})

    def assert_refused(self, result, error, code):
        self.assertEqual((error, [code]), (result.get("error"), result.get("error_codes")), result)
        self.assertTrue(result["error_description"].startswith(f"AADSTS{code}: "))
        self.assertRegex(result["correlation_id"], r"^[0-9a-f-]{36}$")

    def account(self, app):
        [account] = app.get_accounts()
        return account

    def test_interactive_then_silent_from_the_cache(self):
        app = public()
        result = interactive(app)
        self.assertEqual("Alice Anderson", me(result["access_token"]).json()["displayName"])
        self.assertEqual(ALICE, result["id_token_claims"]["preferred_username"])
        account = self.account(app)
        self.assertEqual(ALICE, account["username"])
        self.assertTrue(account["home_account_id"].endswith(EMULATOR["tenant_id"]))
        silent = app.acquire_token_silent(GRAPH, account=account)
        self.assertEqual((result["access_token"], "cache"), (silent["access_token"], silent["token_source"]))

    def test_silent_refreshes_when_the_token_has_expired(self):
        app = public()
        first = interactive(app)
        control("POST", "/clock", {"advance_seconds": 7200})
        now = time.time
        try:
            with mock.patch("time.time", lambda: now() + 7200):
                self.assertEqual(401, me(first["access_token"]).status_code)
                second = app.acquire_token_silent(GRAPH, account=self.account(app))
                self.assertEqual("identity_provider", second["token_source"])
                self.assertEqual(200, me(second["access_token"]).status_code)
        finally:
            control("POST", "/clock", {"advance_seconds": -7200})

    def test_silent_for_another_resource(self):
        app = public()
        interactive(app)
        result = app.acquire_token_silent([f"api://{TASKS}/Tasks.Read"], account=self.account(app))
        claims = json.loads(base64.urlsafe_b64decode(result["access_token"].split(".")[1] + "=="))
        self.assertEqual((TASKS, "Tasks.Read"), (claims["aud"], claims["scp"]))

    def test_shared_authorities(self):
        for tenant in ("common", "organizations"):
            app = public(authority=f"{EMULATOR['authority']}/{tenant}")
            self.assertEqual(EMULATOR["tenant_id"], interactive(app)["id_token_claims"]["tid"])

    def test_a_guest_keeps_the_home_account(self):
        app = public()
        interactive(app, "grace@fabrikam.example")
        self.assertTrue(self.account(app)["home_account_id"].startswith("22222222-"))
        self.assertEqual(200, me(app.acquire_token_silent(GRAPH, account=self.account(app))["access_token"]).status_code)

    def test_device_code(self):
        app = public()
        flow = app.initiate_device_flow(GRAPH)
        self.assertIn(flow["user_code"], flow["message"])
        pending = app.acquire_token_by_device_flow(flow, exit_condition=lambda flow: True)
        self.assert_refused(pending, "authorization_pending", 70016)
        self.assertIn("signed in", Browser().approve(flow, ALICE).text)
        self.assertIn("access_token", app.acquire_token_by_device_flow(flow))

    def test_device_code_slow_down_declined_and_expired(self):
        app = public()
        control("POST", "/device-codes", {"interval": 1, "slow_down": 1, "outcome": {"approved-by": ALICE}})
        flow = app.initiate_device_flow(GRAPH)
        self.assertIn("access_token", app.acquire_token_by_device_flow(flow))
        control("POST", "/device-codes", {"interval": 1})
        flow = app.initiate_device_flow(GRAPH)
        self.assertIn("AADSTS65004", Browser().approve(flow, ALICE, consents=False).text)
        self.assert_refused(app.acquire_token_by_device_flow(flow), "authorization_declined", 70018)
        control("POST", "/device-codes", {"interval": 1, "outcome": "expired"})
        flow = app.initiate_device_flow(GRAPH)
        self.assert_refused(app.acquire_token_by_device_flow(flow), "expired_token", 70020)

    def test_confidential_code_flow_with_a_secret(self):
        app = confidential()
        result = redeem(app, *by_code_flow(app))
        self.assertEqual(200, me(result["access_token"]).status_code)
        self.assertEqual("cache", app.acquire_token_silent(GRAPH, account=self.account(app))["token_source"])

    def test_confidential_with_a_certificate(self):
        private_key = (FIXTURES / "confidential-client.key.pem").read_text()
        certificate = (FIXTURES / "confidential-client.cert.pem").read_text()
        for credential in (
            {"private_key": private_key, "public_certificate": certificate},
            {"private_key": private_key, "thumbprint": self.sha1(certificate)},
        ):
            app = confidential(credential)
            result = app.acquire_token_for_client(["https://graph.microsoft.com/.default"])
            self.assertIn("access_token", result, result)
        latest = control("GET", "/requests/token")["recent"][-1]["form"]
        self.assertIn("client_assertion", dict(latest))

    def sha1(self, pem):
        import hashlib

        der = base64.b64decode("".join(line for line in pem.splitlines() if "-----" not in line))
        return hashlib.sha1(der).hexdigest()

    def test_an_unregistered_certificate_is_refused(self):
        private_key = (FIXTURES / "unregistered-client.key.pem").read_text()
        certificate = (FIXTURES / "unregistered-client.cert.pem").read_text()
        app = confidential({"private_key": private_key, "public_certificate": certificate})
        result = app.acquire_token_for_client(["https://graph.microsoft.com/.default"])
        self.assert_refused(result, "invalid_client", 700027)

    def test_confidential_with_a_federated_credential(self):
        token = control(
            "POST",
            "/federated-token",
            {"issuer": "https://kubernetes.contoso.example/", "subject": "system:serviceaccount:mcp:entra-mcp"},
        )["token"]
        app = confidential({"client_assertion": token})
        self.assertIn("access_token", app.acquire_token_for_client(["https://graph.microsoft.com/.default"]))

    def test_client_credentials(self):
        app = confidential()
        scope = [f"api://{TASKS}/.default"]
        result = app.acquire_token_for_client(scope)
        claims = json.loads(base64.urlsafe_b64decode(result["access_token"].split(".")[1] + "=="))
        self.assertEqual(("app", ["Tasks.Process.All"]), (claims["idtyp"], claims["roles"]))
        self.assertEqual("cache", app.acquire_token_for_client(scope)["token_source"])
        self.assert_refused(app.acquire_token_for_client(["api://nobody/.default"]), "invalid_resource", 500011)

    def test_wrong_and_expired_secrets_are_refused(self):
        scope = ["https://graph.microsoft.com/.default"]
        self.assert_refused(confidential("wrong").acquire_token_for_client(scope), "invalid_client", 7000215)
        expired = confidential("expired-client-secret-of-the-emulator")
        self.assert_refused(expired.acquire_token_for_client(scope), "invalid_client", 7000222)

    def test_on_behalf_of(self):
        user = interactive(public(), scopes=MCP)["access_token"]
        app = confidential()
        result = app.acquire_token_on_behalf_of(user, ["https://graph.microsoft.com/User.Read"])
        self.assertEqual("Alice Anderson", me(result["access_token"]).json()["displayName"])

    def test_on_behalf_of_hands_a_claims_challenge_to_the_client(self):
        client = public()
        user = interactive(client, STELLA, MCP)["access_token"]
        app = confidential()
        refused = app.acquire_token_on_behalf_of(user, [f"api://{VAULT}/Vault.Open"])
        self.assert_refused(refused, "interaction_required", 50076)
        self.assertEqual("basic_action", refused["suberror"])
        stronger = interactive(client, STELLA, MCP, claims_challenge=refused["claims"])["access_token"]
        self.assertIn("access_token", app.acquire_token_on_behalf_of(stronger, [f"api://{VAULT}/Vault.Open"]))

    def test_an_application_token_cannot_go_on_behalf_of_a_user(self):
        app = confidential()
        own = app.acquire_token_for_client([f"api://{CONFIDENTIAL}/.default"])["access_token"]
        refused = app.acquire_token_on_behalf_of(own, ["https://graph.microsoft.com/User.Read"])
        self.assert_refused(refused, "invalid_request", 7000114)

    def test_claims_challenge(self):
        app = public(client_capabilities=["cp1"])
        result = interactive(app)
        self.assertGreater(result["expires_in"], 20 * 3600)
        control("POST", "/graph/challenges", {"times": 1})
        challenged = me(result["access_token"])
        self.assertEqual(401, challenged.status_code)
        encoded = re.search(r'claims="([^"]+)"', challenged.headers["www-authenticate"]).group(1)
        claims = base64.b64decode(encoded).decode()
        renewed = app.acquire_token_silent(GRAPH, account=self.account(app), claims_challenge=claims)
        self.assertEqual("identity_provider", renewed["token_source"])
        self.assertEqual(200, me(renewed["access_token"]).status_code)

    def test_revoked_sessions(self):
        app = public(client_capabilities=["cp1"])
        result = interactive(app)
        control("POST", f"/users/{ALICE}/revoke")
        self.assertEqual(401, me(result["access_token"]).status_code)
        refused = app.acquire_token_silent_with_error(GRAPH, account=self.account(app), force_refresh=True)
        self.assert_refused(refused, "invalid_grant", 50173)
        # The library keeps `bad_token` to itself: there is nothing to tell the person but to sign in again.
        self.assertEqual(("bad_token", ""), (refused["suberror"], refused["classification"]))

    def test_mfa_required_is_classified(self):
        app = public()
        interactive(app)
        control("POST", f"/users/{ALICE}", {"must": "use-mfa"})
        refused = app.acquire_token_silent_with_error(GRAPH, account=self.account(app), force_refresh=True)
        self.assert_refused(refused, "invalid_grant", 50076)
        self.assertEqual("basic_action", refused["classification"])
        self.assertIsNone(app.acquire_token_silent(GRAPH, account=self.account(app), force_refresh=True))
        self.assertIn("access_token", interactive(app, claims_challenge=refused["claims"]))

    def test_conditional_access_is_classified(self):
        app = public()
        interactive(app)
        control("POST", f"/users/{ALICE}", {"must": "use-compliant-device"})
        refused = app.acquire_token_silent_with_error(GRAPH, account=self.account(app), force_refresh=True)
        self.assert_refused(refused, "invalid_grant", 53003)
        self.assertEqual("message_only", refused["classification"])

    def test_consent_required_is_classified(self):
        app = public()
        interactive(app, CONNIE)
        refused = app.acquire_token_silent_with_error(["Mail.Read"], account=self.account(app))
        self.assert_refused(refused, "invalid_grant", 65001)
        self.assertEqual("consent_required", refused["classification"])

    def test_declined_consent(self):
        app = public()
        flow = app.initiate_auth_code_flow(["Mail.Read"], redirect_uri=REDIRECT)
        address = Browser().sign_in(flow["auth_uri"], CONNIE, stay=True, consents=False)
        answer = dict(pair.split("=", 1) for pair in requests.utils.urlparse(address).query.split("&"))
        result = redeem(app, flow, answer)
        self.assertEqual("access_denied", result["error"])
        self.assertIn("AADSTS65004", result["error_description"])

    def test_an_expired_code(self):
        app = public()
        flow, answer = by_code_flow(app)
        control("POST", "/clock", {"advance_seconds": 660})
        try:
            self.assert_refused(redeem(app, flow, answer), "invalid_grant", 70008)
        finally:
            control("POST", "/clock", {"advance_seconds": -660})

    def test_a_code_of_a_wrong_state_is_refused_by_the_library(self):
        app = public()
        control("POST", "/faults/redirects", {"fault": "wrong-state"})
        flow, answer = by_code_flow(app)
        with self.assertRaisesRegex(ValueError, "state"):
            redeem(app, flow, answer)

    def test_a_wrong_nonce_is_refused_by_the_library(self):
        app = public()
        control("POST", "/faults/id-tokens", {"fault": "wrong-nonce"})
        flow, answer = by_code_flow(app)
        with self.assertRaisesRegex(RuntimeError, "nonce"):
            redeem(app, flow, answer)

    def test_wrong_tenants(self):
        with self.assertRaises(ValueError):
            public(authority=f"{EMULATOR['authority']}/nowhere.example").initiate_device_flow(GRAPH)
        self.assert_refused(public(FABRIKAM_APP).initiate_device_flow(GRAPH), "unauthorized_client", 700016)
        common = public(FABRIKAM_APP, authority=f"{EMULATOR['authority']}/common")
        self.assert_refused(common.initiate_device_flow(GRAPH), "invalid_request", 50194)
        with self.assertRaisesRegex(RuntimeError, "AADSTS50020"):
            flow = public().initiate_auth_code_flow(GRAPH, redirect_uri=REDIRECT)
            Browser().sign_in(flow["auth_uri"], "frank@fabrikam.example", stay=True)

    def test_account_removal(self):
        app = public()
        interactive(app)
        account = self.account(app)
        app.remove_account(account)
        self.assertEqual([], app.get_accounts())
        self.assertIsNone(app.acquire_token_silent(GRAPH, account=account))

    def test_managed_identity(self):
        endpoint = f"{EMULATOR['authority']}/msi/token"
        environment = {"IDENTITY_ENDPOINT": endpoint, "IDENTITY_HEADER": "identity-header-of-the-emulator"}
        with mock.patch.dict(os.environ, environment):
            client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
            result = client.acquire_token_for_client(resource=f"api://{TASKS}")
            self.assertIn("access_token", result, result)


if __name__ == "__main__":
    unittest.main(verbosity=2)
