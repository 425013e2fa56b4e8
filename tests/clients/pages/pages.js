// Walks the sign-in pages in Chromium, by keyboard where a person would use one, and takes a picture of each.
//
// EMULATOR holds the emulator's endpoints as JSON; see chromium.js for the rest.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import { close, isAccessible, on, page } from "./chromium.js";

const emulator = JSON.parse(process.env.EMULATOR);
const ALICE = "alice@contoso.example";
const CURIOUS_APP = "a0000000-0000-4000-a000-000000000005";

// The application: one page that says what came back.
const application = createServer((request, response) => {
  response.setHeader("content-type", "text/html");
  response.end("<title>The application</title><h1>The application</h1>");
});
await new Promise((resolve) => application.listen(0, "localhost", resolve));
const redirectUri = `http://localhost:${application.address().port}/`;
const verifier = randomBytes(32).toString("base64url");

function authorizeUrl(clientId, more = {}) {
  const query = new URLSearchParams({
    client_id: clientId,
    response_type: "code",
    redirect_uri: redirectUri,
    scope: "openid profile offline_access https://graph.microsoft.com/User.Read",
    state: "the-state",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...more,
  });
  return `${emulator.authority}/${emulator.tenant_id}/oauth2/v2.0/authorize?${query}`;
}

async function redeem(clientId, code) {
  const response = await fetch(`${emulator.authority}/${emulator.tenant_id}/oauth2/v2.0/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: clientId,
      redirect_uri: redirectUri,
      code_verifier: verifier,
      code,
    }),
  });
  return response.json();
}

async function landed() {
  await on("The application");
  return new URL(page.url()).searchParams;
}

try {
  // User name and password by keyboard alone: the field has the focus, Enter presses the primary button.
  await page.goto(authorizeUrl(emulator.public_client_id));
  await on("Sign in", "1-user-name");
  await isAccessible();
  await page.keyboard.type("nobody@contoso.example");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "AADSTS50034" }).waitFor();
  await page.locator("#loginfmt").fill("");
  await page.keyboard.type(ALICE);
  await page.keyboard.press("Enter");
  await on("Enter password");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "AADSTS50126" }).waitFor();
  await on("Enter password", "2-password-with-error");
  await isAccessible();
  await page.keyboard.type("emulator");
  await page.keyboard.press("Enter");
  let answer = await landed();
  assert.equal(answer.get("state"), "the-state");
  const tokens = await redeem(emulator.public_client_id, answer.get("code"));
  const me = await fetch(`${emulator.graph}/v1.0/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  assert.equal((await me.json()).displayName, "Alice Anderson");

  // A second account by the picker, which Tab and Enter operate.
  await page.goto(authorizeUrl(emulator.public_client_id, { prompt: "select_account" }));
  await on("Pick an account");
  await page.getByRole("button", { name: "Use another account" }).click();
  await on("Sign in");
  await page.keyboard.type("mia@contoso.example");
  await page.keyboard.press("Enter");
  await on("Enter password");
  await page.keyboard.type("emulator");
  await page.keyboard.press("Enter");
  await on("Verify your identity", "3-second-factor");
  await isAccessible();
  await page.keyboard.type("123456");
  await page.keyboard.press("Enter");
  await landed();

  // Picker, then consent, for an application that asks; and the code really redeems.
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid profile User.Read Mail.Read" }));
  await on("Pick an account", "4-account-picker");
  await isAccessible();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await on("Permissions requested", "5-consent");
  await isAccessible();
  await page.getByRole("button", { name: "Cancel" }).click();
  answer = await landed();
  assert.equal(answer.get("error"), "access_denied");
  assert.match(answer.get("error_description"), /^AADSTS65004: /);
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid profile User.Read Mail.Read", login_hint: ALICE }));
  await on("Permissions requested");
  await page.getByRole("button", { name: "Accept" }).click();
  answer = await landed();
  assert.ok((await redeem(CURIOUS_APP, answer.get("code"))).access_token);

  // The answer in a form that submits itself.
  await page.goto(authorizeUrl(CURIOUS_APP, { response_mode: "form_post", login_hint: ALICE }));
  await on("The application");

  // What only an administrator can grant.
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid Directory.Read.All", login_hint: ALICE }));
  await on("Need admin approval", "6-admin-approval");
  await isAccessible();
  await page.getByRole("button", { name: "Back to the app" }).click();
  assert.equal((await landed()).get("error"), "consent_required");

  // An administrator may consent for all users.
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid Directory.Read.All", login_hint: "admin@contoso.example" }));
  await on("Enter password");
  await page.keyboard.type("emulator");
  await page.keyboard.press("Enter");
  await on("Permissions requested", "7-administrators-consent");
  await isAccessible();
  await page.getByLabel("Consent on behalf of Contoso").check();
  await page.getByRole("button", { name: "Accept" }).click();
  await landed();
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid Directory.Read.All", login_hint: ALICE }));
  assert.ok((await landed()).get("code"), "the organization has consented");

  // A device code, from the empty page to the last.
  const device = await (
    await fetch(`${emulator.authority}/${emulator.tenant_id}/oauth2/v2.0/devicecode`, {
      method: "POST",
      body: new URLSearchParams({ client_id: emulator.public_client_id, scope: "openid User.Read" }),
    })
  ).json();
  await page.goto(device.verification_uri);
  await on("Enter code");
  await page.keyboard.type("WRONG");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  await page.locator("#user_code").fill(device.user_code);
  await on("Enter code", "8-device-code");
  await isAccessible();
  await page.keyboard.press("Enter");
  await on("Pick an account");
  await page.getByRole("button", { name: "Alice Anderson" }).click();
  await on("Confirm the device", "9-device-confirmation");
  await isAccessible();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await on("Signed in", "10-device-done");

  // A mistake of the application, and a person who may not enter.
  await page.goto(authorizeUrl(emulator.public_client_id, { redirect_uri: "https://attacker.example/" }));
  await page.getByRole("alert").filter({ hasText: "AADSTS50011" }).waitFor();
  await on("Sorry, but we're having trouble signing you in", "11-refusal");
  await isAccessible();
  await page.goto(authorizeUrl(emulator.public_client_id, { prompt: "select_account" }));
  await page.getByRole("button", { name: "Use another account" }).click();
  await on("Sign in");
  await page.keyboard.type("carl@contoso.example");
  await page.keyboard.press("Enter");
  await on("Enter password");
  await page.keyboard.type("emulator");
  await page.keyboard.press("Enter");
  await on("You cannot access this right now", "12-conditional-access");

  // A small screen in the dark.
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 375, height: 700 });
  await page.goto(authorizeUrl(CURIOUS_APP, { scope: "openid User.ReadWrite", login_hint: ALICE }));
  await on("Permissions requested", "13-small-and-dark");
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  assert.equal(sideways, false, "nothing sticks out");
} finally {
  await close();
  application.close();
}
