// Walks the consent page of the remote server and the sign-in pages behind it in Chromium, and takes a picture of each.
//
// SERVER is the public URL of `entra-mcp serve`; see chromium.js for the rest.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import { close, context, isAccessible, on, page } from "./chromium.js";

const { SERVER } = process.env;
const ALICE = "alice@contoso.example";
const CLIENT = "Contoso Notes <b>&</b> Tasks";
const CONSENT = "Allow access to your account? · entra-mcp";

// The application: a page that says what came back, and one that frames whatever it is told to.
const application = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  response.setHeader("content-type", "text/html");
  response.end(
    url.pathname === "/frame"
      ? `<title>A frame</title><iframe name="inner" src="${url.searchParams.get("url").replaceAll("&", "&amp;")}"></iframe>`
      : "<title>The application</title><h1>The application</h1>",
  );
});
await new Promise((resolve) => application.listen(0, "localhost", resolve));
const origin = `http://localhost:${application.address().port}`;
const redirectUri = `${origin}/callback`;
const verifier = randomBytes(32).toString("base64url");

async function post(url, body, headers = {}) {
  const response = await fetch(url, { method: "POST", body, headers });
  return [response.status, await response.json()];
}

const metadata = await (await fetch(`${SERVER}/.well-known/oauth-authorization-server`)).json();
const registration = { client_name: CLIENT, redirect_uris: [redirectUri], token_endpoint_auth_method: "none" };
const [registered, client] = await post(metadata.registration_endpoint, JSON.stringify(registration), {
  "content-type": "application/json",
});
assert.equal(registered, 201, JSON.stringify(client));

function authorizeUrl(state) {
  const query = new URLSearchParams({
    client_id: client.client_id,
    response_type: "code",
    redirect_uri: redirectUri,
    scope: "User.Read",
    state,
    resource: `${SERVER}/mcp`,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  return `${metadata.authorization_endpoint}?${query}`;
}

async function landed(state) {
  await on("The application");
  const answer = new URL(page.url());
  assert.equal(answer.origin + answer.pathname, redirectUri);
  assert.equal(answer.searchParams.get("state"), state);
  assert.equal(answer.searchParams.get("iss"), metadata.issuer);
  return answer.searchParams;
}

try {
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));

  // The page for a client that any program could have registered.
  await page.goto(authorizeUrl("one"));
  await on(CONSENT, "remote-1-consent");
  await isAccessible();
  const text = await page.locator("body").innerText();
  assert.ok(text.includes(CLIENT), `the client's name is shown as it is: ${text}`);
  assert.ok(text.includes(`localhost:${application.address().port}`), `the redirect host is named: ${text}`);
  assert.ok(/read your profile/i.test(text), `the scope is in plain words: ${text}`);
  assert.deepEqual(complaints, [], "the page does what its own policy forbids");

  // The person declines.
  await page.getByRole("button", { name: "Deny" }).click();
  let answer = await landed("one");
  assert.equal(answer.get("error"), "access_denied");
  assert.equal(answer.get("code"), null);

  // The page inside of another site's frame does not show.
  await page.goto(`${origin}/frame?url=${encodeURIComponent(authorizeUrl("framed"))}`);
  await on("A frame");
  const inner = page.frame({ name: "inner" });
  await page.waitForLoadState("networkidle");
  assert.equal(await inner.getByRole("button").count(), 0, "the consent page shows in a frame");

  // The person allows it, by keyboard: deny comes first, so that Enter alone allows nothing.
  await page.goto(authorizeUrl("two"));
  await on(CONSENT);
  await page.getByRole("button", { name: "Allow" }).focus();
  await page.keyboard.press("Enter");
  await on("Sign in", "remote-2-sign-in");
  await page.keyboard.type(ALICE);
  await page.keyboard.press("Enter");
  await on("Enter password");
  await page.keyboard.type("emulator");
  await page.keyboard.press("Enter");
  answer = await landed("two");
  assert.equal(answer.get("error"), null);

  // A script cannot read the server's cookie, and the browser sends it to the server only.
  const cookies = (await context.cookies(SERVER)).filter(({ name }) => /entra-mcp/.test(name));
  assert.equal(cookies.length, 1, JSON.stringify(cookies.map(({ name }) => name)));
  const [cookie] = cookies;
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Lax", "/"]);
  if (SERVER.startsWith("https:")) {
    assert.match(cookie.name, /^__Host-/);
    assert.equal(cookie.secure, true);
  }

  // The code is worth a session.
  const [status, tokens] = await post(
    metadata.token_endpoint,
    new URLSearchParams({
      grant_type: "authorization_code",
      client_id: client.client_id,
      redirect_uri: redirectUri,
      code_verifier: verifier,
      code: answer.get("code"),
    }),
  );
  assert.equal(status, 200, JSON.stringify(tokens));
  const call = {
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: { name: "getUserDetails", arguments: {} },
  };
  const [called, result] = await post(`${SERVER}/mcp`, JSON.stringify(call), {
    authorization: `Bearer ${tokens.access_token}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
  });
  assert.equal(called, 200, JSON.stringify(result));
  assert.equal(result.result.structuredContent.displayName, "Alice Anderson");

  // The same person with the same client again: Entra ID remembers, but the server asks, as any program may listen on
  // this machine.
  await page.goto(authorizeUrl("three"));
  await on(CONSENT);
  await page.getByRole("button", { name: "Allow" }).click();
  answer = await landed("three");
  assert.ok(answer.get("code"));

  // A request that cannot be sent back anywhere is told to the person.
  const wrong = new URL(authorizeUrl("four"));
  wrong.searchParams.set("redirect_uri", "https://attacker.example/");
  await page.goto(wrong.href);
  await page.getByRole("alert").waitFor();
  await isAccessible();
  await on(await page.title(), "remote-3-refusal");
  assert.ok(page.url().startsWith(SERVER), page.url());

  // A small screen in the dark, and the page about the server.
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 375, height: 700 });
  await context.clearCookies();
  await page.goto(authorizeUrl("five"));
  await on(CONSENT, "remote-4-small-and-dark");
  const sideways = () => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  assert.equal(await sideways(), false, "nothing sticks out");
  await page.goto(`${SERVER}/`);
  await on(await page.title(), "remote-5-index");
  await isAccessible();
  assert.equal(await sideways(), false, "nothing sticks out");
  assert.ok((await page.locator("body").innerText()).includes(`${SERVER}/mcp`), "the page says how to connect");
} finally {
  await close();
  application.close();
}
console.log(JSON.stringify({ ok: true }));
