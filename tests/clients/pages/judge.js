// Judges tokens in Chromium: serves FOLDER, enters the lines of TOKENS into its page judge.html, and prints what that says.
//
// See chromium.js for the rest.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

import { close, page } from "./chromium.js";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".wasm": "application/wasm" };

const site = createServer(async (request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
  try {
    const content = await readFile(join(process.env.FOLDER, path));
    response.setHeader("content-type", TYPES[extname(path)] ?? "text/plain").end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
page.on("pageerror", (error) => console.error(error));

await page.goto(`http://127.0.0.1:${site.address().port}/judge.html`, { waitUntil: "networkidle" });
// A field of a form drops what is no text; a token with a NUL is one.
await page.evaluate((tokens) => (document.forms[0].tokens.value = tokens), readFileSync(process.env.TOKENS, "utf8"));
await page.locator("button").click();
await page.waitForFunction(() => document.querySelector("output").textContent !== "");
console.log(await page.evaluate(() => document.querySelector("output").textContent));
await close();
site.close();
site.closeAllConnections();
