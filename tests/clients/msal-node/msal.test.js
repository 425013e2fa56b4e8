// Signs in at the emulator with Microsoft's own library for Node, unmodified, over https.
//
// EMULATOR holds the emulator's endpoints as JSON; NODE_EXTRA_CA_CERTS its certificate authority.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";

import {
  AuthError,
  ClientAuthError,
  ConfidentialClientApplication,
  CryptoProvider,
  InteractionRequiredAuthError,
  ManagedIdentityApplication,
  PublicClientApplication,
  ServerError,
} from "@azure/msal-node";

import { Browser } from "./browser.js";

const emulator = JSON.parse(process.env.EMULATOR);
const host = new URL(emulator.authority).host;
const fixture = (name) => readFileSync(new URL(`../../fixtures/${name}`, import.meta.url), "utf8");

const ALICE = "alice@contoso.example";
const STELLA = "stella@contoso.example";
const CONNIE = "connie@contoso.example";
const TASKS = "a0000000-0000-4000-a000-000000000003";
const VAULT = "a0000000-0000-4000-a000-000000000006";
const FABRIKAM_APP = "a0000000-0000-4000-a000-00000000000b";
const REDIRECT = "http://localhost:54321";
const CALLBACK = "http://localhost:54321/auth/callback";
const GRAPH = ["User.Read"];
const GRAPH_DEFAULT = ["https://graph.microsoft.com/.default"];
const MCP = [`api://${emulator.confidential_client_id}/Mcp.Access`];

async function control(method, path, body) {
  const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(emulator.control + path, { method, ...json });
  assert.ok(response.ok, `${method} ${path}: ${await response.clone().text()}`);
  return response.json();
}

const me = (token) => fetch(`${emulator.graph}/v1.0/me`, { headers: { authorization: `Bearer ${token}` } });
const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

const auth = (clientId, { tenant = emulator.tenant_id, ...more } = {}) => ({
  clientId,
  authority: `${emulator.authority}/${tenant}`,
  knownAuthorities: [host],
  ...more,
});
const publicClient = (options, clientId = emulator.public_client_id) =>
  new PublicClientApplication({ auth: auth(clientId, options) });
const confidentialClient = (credential = { clientSecret: emulator.client_secret }, options) =>
  new ConfidentialClientApplication({ auth: { ...auth(emulator.confidential_client_id, options), ...credential } });

const interactive = (app, username = ALICE, request = {}) =>
  app.acquireTokenInteractive({
    scopes: GRAPH,
    openBrowser: (url) => void new Browser().signIn(url, username).catch((error) => console.error(error)),
    ...request,
  });

/// The answer of a sign-in, left to the caller to redeem.
async function codeFor(app, redirectUri, username = ALICE, options = {}) {
  const { verifier, challenge } = await new CryptoProvider().generatePkceCodes();
  const address = await app.getAuthCodeUrl({
    scopes: GRAPH,
    redirectUri,
    responseMode: "query",
    codeChallenge: challenge,
    codeChallengeMethod: "S256",
    ...options,
  });
  const landed = await new Browser().signIn(address, username, { stay: true, ...options });
  return { code: landed.searchParams.get("code"), codeVerifier: verifier, error: landed.searchParams.get("error"), landed };
}

const redeem = (app, redirectUri, { code, codeVerifier }) =>
  app.acquireTokenByCode({ scopes: GRAPH, redirectUri, code, codeVerifier });

/// The library's own classification of a refusal.
async function refused(promise, kind, expected) {
  const error = await promise.then(
    () => assert.fail("it was not refused"),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error}`);
  for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${name} of ${error}`);
  return error;
}

beforeEach(async () => {
  await control("DELETE", "/faults");
  await control("POST", "/device-codes", { interval: 1 });
  await control("POST", `/users/${ALICE}`, { must: "nothing" });
});

test("interactive, then silent from the cache, then an account removed", async () => {
  const app = publicClient();
  const result = await interactive(app);
  assert.equal((await (await me(result.accessToken)).json()).displayName, "Alice Anderson");
  assert.equal(result.account.username, ALICE);
  assert.equal(result.tenantId, emulator.tenant_id);
  const silent = await app.acquireTokenSilent({ scopes: GRAPH, account: result.account });
  assert.equal(silent.fromCache, true);
  assert.equal(silent.accessToken, result.accessToken);
  await app.getTokenCache().removeAccount(result.account);
  assert.deepEqual(await app.getTokenCache().getAllAccounts(), []);
  await refused(app.acquireTokenSilent({ scopes: GRAPH, account: result.account }), AuthError, { errorCode: "no_tokens_found" });
});

test("silent refreshes when the token has expired", async () => {
  const app = publicClient();
  const first = await interactive(app);
  const now = Date.now;
  const RealDate = Date;
  await control("POST", "/clock", { advance_seconds: 7200 });
  globalThis.Date = class extends RealDate {
    constructor(...time) {
      super(...(time.length ? time : [now() + 7_200_000]));
    }
    static now() {
      return now() + 7_200_000;
    }
  };
  try {
    assert.equal((await me(first.accessToken)).status, 401);
    const second = await app.acquireTokenSilent({ scopes: GRAPH, account: first.account });
    assert.equal(second.fromCache, false);
    assert.equal((await me(second.accessToken)).status, 200);
  } finally {
    globalThis.Date = RealDate;
    await control("POST", "/clock", { advance_seconds: -7200 });
  }
});

test("silent for another resource", async () => {
  const app = publicClient();
  const { account } = await interactive(app);
  const result = await app.acquireTokenSilent({ scopes: [`api://${TASKS}/Tasks.Read`], account });
  assert.equal(claimsOf(result.accessToken).aud, TASKS);
});

test("shared authorities", async () => {
  for (const tenant of ["common", "organizations"]) {
    const result = await interactive(publicClient({ tenant }));
    assert.equal(result.tenantId, emulator.tenant_id);
  }
});

test("device code", async () => {
  const app = publicClient();
  const result = await app.acquireTokenByDeviceCode({
    scopes: GRAPH,
    deviceCodeCallback: (code) => void new Browser().approve(code, ALICE),
  });
  assert.equal((await me(result.accessToken)).status, 200);
});

test("device code, declined and expired", async () => {
  const request = (deviceCodeCallback) => ({ scopes: GRAPH, deviceCodeCallback });
  const decline = (code) => void new Browser().approve(code, ALICE, { consents: false });
  // The library files the end of a device code under a failed request and keeps the server's own code as the reason.
  const declined = await refused(publicClient().acquireTokenByDeviceCode(request(decline)), AuthError, {
    errorCode: "post_request_failed",
  });
  assert.match(declined.message, /authorization_declined/);
  await control("POST", "/device-codes", { interval: 1, outcome: "expired" });
  const expired = await refused(publicClient().acquireTokenByDeviceCode(request(() => {})), AuthError, {
    errorCode: "post_request_failed",
  });
  assert.match(expired.message, /expired_token/);
});

test("confidential code flow with a secret", async () => {
  const app = confidentialClient();
  const result = await redeem(app, CALLBACK, await codeFor(app, CALLBACK));
  assert.equal((await me(result.accessToken)).status, 200);
  assert.equal((await app.acquireTokenSilent({ scopes: GRAPH, account: result.account })).fromCache, true);
});

const certificate = (name) => {
  const der = Buffer.from(fixture(`${name}.cert.pem`).replace(/-----[^-]+-----|\s/g, ""), "base64");
  const thumbprintSha256 = createHash("sha256").update(der).digest("hex");
  return { clientCertificate: { thumbprintSha256, privateKey: fixture(`${name}.key.pem`) } };
};

test("confidential with a certificate", async () => {
  const app = confidentialClient(certificate("confidential-client"));
  const result = await redeem(app, CALLBACK, await codeFor(app, CALLBACK));
  assert.equal((await me(result.accessToken)).status, 200);
  const form = Object.fromEntries((await control("GET", "/requests/token")).recent.at(-1).form);
  const header = JSON.parse(Buffer.from(form.client_assertion.split(".")[0], "base64url"));
  assert.equal(header.alg, "PS256");
  assert.ok(header["x5t#S256"]);
  await refused(
    confidentialClient(certificate("unregistered-client")).acquireTokenByClientCredential({ scopes: GRAPH_DEFAULT }),
    ServerError,
    { errorCode: "invalid_client" },
  );
});

test("confidential with a federated credential", async () => {
  const { token } = await control("POST", "/federated-token", {
    issuer: "https://kubernetes.contoso.example/",
    subject: "system:serviceaccount:mcp:entra-mcp",
  });
  const app = confidentialClient({ clientAssertion: async () => token });
  assert.ok((await app.acquireTokenByClientCredential({ scopes: GRAPH_DEFAULT })).accessToken);
});

test("client credentials", async () => {
  const app = confidentialClient();
  const scopes = [`api://${TASKS}/.default`];
  const claims = claimsOf((await app.acquireTokenByClientCredential({ scopes })).accessToken);
  assert.equal(claims.idtyp, "app");
  assert.deepEqual(claims.roles, ["Tasks.Process.All"]);
  assert.equal((await app.acquireTokenByClientCredential({ scopes })).fromCache, true);
  const unknown = app.acquireTokenByClientCredential({ scopes: ["api://nobody/.default"] });
  await refused(unknown, ServerError, { errorCode: "invalid_resource" });
});

test("wrong and expired secrets", async () => {
  for (const [clientSecret, number] of [["wrong", "7000215"], ["expired-client-secret-of-the-emulator", "7000222"]]) {
    const app = confidentialClient({ clientSecret });
    const error = await refused(app.acquireTokenByClientCredential({ scopes: GRAPH_DEFAULT }), ServerError, {
      errorCode: "invalid_client",
    });
    assert.match(error.errorMessage, new RegExp(`AADSTS${number}`));
  }
});

test("on behalf of", async () => {
  const user = await interactive(publicClient(), ALICE, { scopes: MCP });
  const app = confidentialClient();
  const request = { oboAssertion: user.accessToken, scopes: ["https://graph.microsoft.com/User.Read"] };
  const result = await app.acquireTokenOnBehalfOf(request);
  assert.equal((await (await me(result.accessToken)).json()).displayName, "Alice Anderson");
  assert.equal((await app.acquireTokenOnBehalfOf(request)).fromCache, true);
});

test("on behalf of hands a claims challenge to the client", async () => {
  const client = publicClient();
  const user = await interactive(client, STELLA, { scopes: MCP });
  const app = confidentialClient();
  const scopes = [`api://${VAULT}/Vault.Open`];
  const error = await refused(app.acquireTokenOnBehalfOf({ oboAssertion: user.accessToken, scopes }), InteractionRequiredAuthError, {
    errorCode: "interaction_required",
    subError: "basic_action",
  });
  const stronger = await interactive(client, STELLA, { scopes: MCP, claims: error.claims });
  assert.ok((await app.acquireTokenOnBehalfOf({ oboAssertion: stronger.accessToken, scopes })).accessToken);
});

test("claims challenge", async () => {
  const app = publicClient({ clientCapabilities: ["cp1"] });
  const result = await interactive(app);
  await control("POST", "/graph/challenges", { times: 1 });
  const challenged = await me(result.accessToken);
  assert.equal(challenged.status, 401);
  const [, encoded] = challenged.headers.get("www-authenticate").match(/claims="([^"]+)"/);
  const claims = Buffer.from(encoded, "base64").toString();
  const renewed = await app.acquireTokenSilent({ scopes: GRAPH, account: result.account, claims });
  assert.equal(renewed.fromCache, false);
  assert.equal((await me(renewed.accessToken)).status, 200);
});

test("revoked sessions need a new sign-in", async () => {
  const app = publicClient();
  const { account } = await interactive(app);
  await control("POST", `/users/${ALICE}/revoke`);
  const silent = app.acquireTokenSilent({ scopes: GRAPH, account, forceRefresh: true });
  await refused(silent, InteractionRequiredAuthError, { errorCode: "invalid_grant", subError: "bad_token" });
});

for (const [must, number, subError] of [
  ["use-mfa", "50076", "basic_action"],
  ["enrol-mfa", "50079", "basic_action"],
  ["use-compliant-device", "53003", "message_only"],
]) {
  test(`${must} is classified as interaction required`, async () => {
    const app = publicClient();
    const { account } = await interactive(app);
    await control("POST", `/users/${ALICE}`, { must });
    const silent = app.acquireTokenSilent({ scopes: GRAPH, account, forceRefresh: true });
    const error = await refused(silent, InteractionRequiredAuthError, { errorCode: "invalid_grant", subError });
    assert.equal(String(error.errorNo), number);
    assert.match(error.claims, /capolids/);
  });
}

test("consent required is classified, and declining is an error of the answer", async () => {
  const app = publicClient();
  const { account } = await interactive(app, CONNIE);
  const silent = app.acquireTokenSilent({ scopes: ["Mail.Read"], account });
  const error = await refused(silent, InteractionRequiredAuthError, { errorCode: "invalid_grant", subError: "consent_required" });
  assert.equal(String(error.errorNo), "65001");
  const declined = await codeFor(app, REDIRECT, CONNIE, { scopes: ["Mail.Read"], consents: false });
  assert.equal(declined.error, "access_denied");
});

test("an expired code", async () => {
  const app = publicClient();
  const answer = await codeFor(app, REDIRECT);
  await control("POST", "/clock", { advance_seconds: 660 });
  try {
    const error = await refused(redeem(app, REDIRECT, answer), AuthError, { errorCode: "invalid_grant" });
    assert.equal(String(error.errorNo), "70008");
  } finally {
    await control("POST", "/clock", { advance_seconds: -660 });
  }
});

test("wrong tenants", async () => {
  const nowhere = publicClient({ tenant: "nowhere.example" });
  await refused(nowhere.getAuthCodeUrl({ scopes: GRAPH, redirectUri: REDIRECT }), ClientAuthError, {
    errorCode: "endpoints_resolution_error",
  });
  const request = { scopes: GRAPH, deviceCodeCallback: () => {} };
  const elsewhere = publicClient({}, FABRIKAM_APP).acquireTokenByDeviceCode(request);
  assert.match((await refused(elsewhere, AuthError, {})).message, /unauthorized_client/);
  await assert.rejects(codeFor(publicClient(), REDIRECT, "frank@fabrikam.example"), /AADSTS50020/);
});

test("a server that is unavailable is left alone for a while", async () => {
  const app = confidentialClient();
  const acquire = () => app.acquireTokenByClientCredential({ scopes: GRAPH_DEFAULT });
  await control("POST", "/faults", { endpoint: "token", status: 503, headers: { "retry-after": "60" } });
  const before = (await control("GET", "/requests")).token;
  await refused(acquire(), ServerError, { errorCode: "temporarily_unavailable" });
  await refused(acquire(), ServerError, {});
  assert.equal((await control("GET", "/requests")).token, before + 1, "the second attempt never leaves the client");
});

test("managed identity of an App Service", async () => {
  process.env.IDENTITY_ENDPOINT = `${emulator.authority}/msi/token`;
  process.env.IDENTITY_HEADER = "identity-header-of-the-emulator";
  const result = await new ManagedIdentityApplication().acquireToken({ resource: `api://${TASKS}` });
  assert.equal(claimsOf(result.accessToken).idtyp, "app");
});
