// Chromium for the pages, and what every page is checked for.
//
// CHROMIUM is the browser, SCREENSHOTS (optional) a folder for the pictures.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

const profile = mkdtempSync(join(tmpdir(), "entra-mcp-chromium-"));
export const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  // A test's server may have a self-signed certificate; Node.js trusts it through the same variable.
  ignoreHTTPSErrors: Boolean(process.env.NODE_EXTRA_CA_CERTS),
  viewport: { width: 1000, height: 760 },
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
export const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(15_000);

// Waits for a page by its title, and takes a picture of it if there is a name for one.
export async function on(title, picture) {
  await page.waitForFunction((wanted) => document.title === wanted, title);
  if (picture && process.env.SCREENSHOTS) {
    await page.screenshot({ path: join(process.env.SCREENSHOTS, `${picture}.png`) });
  }
}

// What a screen reader needs: a language, one heading, a label for each field, and an announced error.
export async function isAccessible() {
  const faults = await page.evaluate(() => {
    const found = [];
    if (document.documentElement.lang !== "en") found.push("no language");
    if (document.querySelectorAll("h1").length !== 1) found.push("not one heading");
    for (const field of document.querySelectorAll("input:not([type=hidden]):not([hidden])")) {
      if (!field.labels?.length) found.push(`no label for ${field.name}`);
    }
    for (const button of document.querySelectorAll("button")) {
      if (!button.textContent.trim()) found.push("a button without text");
    }
    return found;
  });
  assert.deepEqual(faults, [], await page.title());
}

export async function close() {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
