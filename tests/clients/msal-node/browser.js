// A browser of a few lines: follows redirects, keeps cookies, submits the forms of the emulator's sign-in pages.

const PASSWORD = "emulator";
const ONE_TIME_CODE = "123456";

const unescape = (text) =>
  text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&quot;/g, '"').replace(/&#39;/g, "'").replace(/&amp;/g, "&");

const attribute = (tag, name) => unescape(tag.match(new RegExp(`\\b${name}="([^"]*)"`))?.[1] ?? "");

function readForm(html) {
  const form = html.match(/<form[^>]*>/)?.[0];
  const inputs = [...html.matchAll(/<input[^>]*>/g)].map(([tag]) => tag);
  const buttons = [...html.matchAll(/<button[^>]*>/g)].map(([tag]) => tag);
  return {
    action: form && attribute(form, "action"),
    hidden: Object.fromEntries(
      inputs.filter((tag) => attribute(tag, "type") === "hidden").map((tag) => [attribute(tag, "name"), attribute(tag, "value")]),
    ),
    asksFor: (name) => inputs.some((tag) => attribute(tag, "name") === name),
    offers: (name, value) => buttons.some((tag) => attribute(tag, "name") === name && attribute(tag, "value") === value),
    alert: html.match(/role="alert">(.*?)<\/p>/s)?.[1].replace(/<[^>]*>/g, ""),
  };
}

export class Browser {
  #cookies = new Map();

  async #open(url, fields) {
    const jar = this.#cookies.get(url.host) ?? new Map();
    const response = await fetch(url, {
      method: fields ? "POST" : "GET",
      body: fields && new URLSearchParams(fields),
      redirect: "manual",
      headers: { cookie: [...jar].map((pair) => pair.join("=")).join("; ") },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      jar.set(name, value);
    }
    this.#cookies.set(url.host, jar);
    return response;
  }

  /// Walks until no form of the sign-in pages is left. With `stay`, returns the address that leads away instead.
  async signIn(address, username, { stay = false, consents = true, fields } = {}) {
    let url = new URL(address);
    const home = url.host;
    for (let step = 0; step < 30; step += 1) {
      const response = await this.#open(url, fields);
      fields = undefined;
      const location = response.headers.get("location");
      if (location) {
        url = new URL(location, url);
        if (stay && url.host !== home) return url;
        continue;
      }
      const page = await response.text();
      const form = readForm(page);
      if (!form.asksFor("canary")) {
        if (form.action && ("code" in form.hidden || "error" in form.hidden)) {
          url = new URL(form.action, url);
          fields = form.hidden;
          continue;
        }
        return page;
      }
      if (form.alert) throw new Error(form.alert);
      fields = { ...form.hidden };
      if (form.asksFor("loginfmt")) Object.assign(fields, { action: "username", loginfmt: username });
      else if (form.asksFor("passwd")) Object.assign(fields, { action: "password", passwd: PASSWORD });
      else if (form.asksFor("otc")) Object.assign(fields, { action: "mfa", otc: ONE_TIME_CODE });
      else if (form.offers("action", "accept")) fields.action = consents ? "accept" : "decline";
      else if (form.offers("action", "confirm")) fields.action = consents ? "confirm" : "cancel";
      else if (form.offers("account", username)) fields.account = username;
      else fields.action = "other";
      url = new URL(form.action, url);
    }
    throw new Error("the sign-in does not end");
  }

  /// Types a device code and signs in.
  approve({ verificationUri, userCode }, username, options = {}) {
    return this.signIn(verificationUri, username, { ...options, fields: { user_code: userCode } });
  }
}
