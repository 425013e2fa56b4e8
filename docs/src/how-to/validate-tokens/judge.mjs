// Judges access tokens, one a line: `node judge.mjs settings.json < tokens.txt`.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { tokenVerdict } from "./validator/validator.js";

const settings = readFileSync(process.argv[2], "utf8");

for await (const token of createInterface({ input: process.stdin })) {
  try {
    const principal = tokenVerdict.validate(token, settings);
    console.log(`valid ${principal.objectId}`);
  } catch (error) {
    // What has no code is no verdict.
    if (!error.payload?.code) throw error;
    console.log(error.payload.code);
  }
}
