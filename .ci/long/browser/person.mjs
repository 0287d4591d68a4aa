// A person at a real Chromium: accounts are connected, calls decided, the documentation read.
// node person.mjs CHROMIUM, with what to do as JSON on standard input: prints a line of JSON for each check, [what, holds, detail].
import puppeteer from "puppeteer-core";

const { gateway, keys } = JSON.parse(await new Response(process.stdin).text());
const check = (what, holds, detail = "") => console.log(JSON.stringify([what, Boolean(holds), detail]));
const equal = (what, got, expected) =>
  check(what, JSON.stringify(got) === JSON.stringify(expected), `expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);

// No name resolves: whatever a page asked of another host would fail, and be seen.
const browser = await puppeteer.launch({
  executablePath: process.argv[2],
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});

async function rest(method, path, key, body) {
  const headers = { "X-API-Key": key, ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch(gateway + path, { method, headers, body: body && JSON.stringify(body) });
  return answer.json();
}

async function call(tool, args, key) {
  const params = { name: tool, arguments: args };
  return (await rest("POST", "/v1/mcp", key, { jsonrpc: "2.0", id: 1, method: "tools/call", params })).result;
}

/// A window of somebody's own, without the cookies of others, that keeps what went wrong on pages of the gateway.
class Window {
  static async open() {
    const own = new Window();
    own.page = await (await browser.createBrowserContext()).newPage();
    own.asked = [];
    own.wrong = [];
    await own.page.setViewport({ width: 1024, height: 768 });
    own.page.on("request", (request) => own.asked.push(request.url()));
    own.page.on("pageerror", (error) => own.wrong.push(String(error)));
    own.page.on("console", (message) => {
      // The status of a page that says no is told by the browser as a fault of the page.
      const status = /^Failed to load resource: the server responded with a status of 4\d\d /.test(message.text());
      const own_page = (message.location().url ?? "").startsWith(gateway) || own.page.url().startsWith(gateway);
      if (own_page && !(status && message.location().url === own.page.url())) own.wrong.push(`${message.type()}: ${message.text()}`);
    });
    return own;
  }

  async go(url) {
    this.status = (await this.page.goto(url, { waitUntil: "networkidle0" })).status();
  }

  /// Does what leads to another page.
  async by(act) {
    const [answer] = await Promise.all([this.page.waitForNavigation({ waitUntil: "networkidle0" }), act()]);
    this.status = answer.status();
  }

  click(what) {
    return this.by(() => this.page.click(what));
  }

  text() {
    return this.page.evaluate(() => document.body.innerText);
  }

  /// Signs in with the provider, consents, and is sent back to the gateway.
  async agree(url, login) {
    await this.go(url);
    await this.page.type("input[name=login]", login);
    await this.page.type("input[name=password]", "any");
    await this.click("button[type=submit]");
    await this.click("button[type=submit]");
  }

  /// What each page of the gateway keeps to, whatever it shows.
  async holds(what, secrets = []) {
    const seen = await this.page.evaluate(() => {
      const style = getComputedStyle(document.querySelector("h1"));
      return {
        url: location.href,
        html: document.documentElement.outerHTML,
        lang: document.documentElement.lang,
        heads: document.querySelectorAll("h1").length,
        scripts: document.scripts.length,
        styled: style.fontFamily !== "" && !/^"?(Times|serif)/i.test(style.fontFamily),
      };
    });
    check(`${what}: a page in a language, with one heading and no script`,
      seen.lang === "en" && seen.heads === 1 && seen.scripts === 0, JSON.stringify({ ...seen, html: "" }));
    check(`${what}: its style applies`, seen.styled, JSON.stringify({ ...seen, html: "" }));
    const shown = secrets.filter((secret) => seen.html.includes(secret) || seen.html.includes(encodeURIComponent(secret)));
    equal(`${what}: nothing of what is secret stands in it`, shown, []);
    await this.page.setViewport({ width: 360, height: 640 });
    await this.page.waitForFunction(() => innerWidth === 360);
    await this.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
    const wide = await this.page.evaluate(() => {
      const { scrollWidth } = document.documentElement;
      if (scrollWidth <= innerWidth) return [];
      const over = (one) => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1;
      const found = [...document.querySelectorAll("body, body *")].filter(over).map((one) => one.outerHTML.slice(0, 80));
      return [scrollWidth, ...found.slice(0, 5)];
    });
    equal(`${what}: it fits a telephone`, wide, []);
    await this.page.setViewport({ width: 1024, height: 768 });
    equal(`${what}: the browser has nothing to complain of`, this.wrong, []);
    // Last, for the browser complains of what is tried here.
    const ran = await this.page.evaluate(async () => {
      const stopped = [];
      document.addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.head.append(script);
      const image = new Image();
      image.src = "/v1/mcp";
      document.body.append(image);
      const handler = document.createElement("p");
      handler.setAttribute("onclick", "window.ran = true");
      document.body.append(handler);
      handler.click();
      await fetch("/healthz").then(() => (window.ran = true), () => {});
      await new Promise((done) => setTimeout(done, 50));
      return { ran: window.ran ?? false, stopped: [...new Set(stopped)].sort() };
    });
    equal(`${what}: the policy of its content stops what would run, load or send`, ran, {
      ran: false,
      stopped: ["connect-src", "img-src", "script-src-attr", "script-src-elem"],
    });
    this.wrong.length = 0;
  }
}

async function connect(key) {
  return (await rest("POST", "/v1/providers/example/connect", key)).data.url;
}

async function accounts() {
  const standing = async (key) => (await rest("GET", "/v1/providers", key)).data[0].state;
  const ada = await Window.open();
  const link = await connect(keys.ada);
  await ada.agree(link, "ada-at-example");
  const back = new URL(ada.page.url());
  const secrets = ["code", "state"].map((name) => back.searchParams.get(name));
  check("consent leads back to the gateway", back.origin === gateway && secrets.every((text) => text?.length > 20), back.href);
  equal("asked: the status", ada.status, 200);
  equal("asked: the title", await ada.page.title(), "Connect your account with Example?");
  const asked = await ada.text();
  check("asked: whose user it is", /^The user ada of this gateway asks to use your account with Example /m.test(asked), asked);
  equal("asked: nothing of what is secret is seen", secrets.filter((text) => asked.includes(text)), []);
  await ada.holds("asked");
  equal("asked: nothing is connected yet", await standing(keys.ada), "disconnected");
  await ada.by(() => ada.page.reload());
  await ada.click("form button");
  equal("connected: the address holds nothing", ada.page.url(), `${gateway}/v1/providers/example/callback`);
  equal("connected: the status", ada.status, 200);
  equal("connected: the title", await ada.page.title(), "Example is connected");
  equal("connected: what one reads", (await ada.text()).split(/\n+/), [
    "Example is connected",
    "The user ada of this gateway can now use your account with Example through its tools. If that is not you, withdraw the " +
      "access in the settings of Example. You can close this page.",
  ]);
  equal("connected: no link leads on", await ada.page.$$eval("a, form, iframe, img, link, meta[http-equiv]", (all) => all.length), 0);
  await ada.holds("connected", [...secrets, new URL(link).searchParams.get("code_challenge")]);
  equal("the account is connected", await standing(keys.ada), "connected");
  equal("a tool is called with it", (await call("up:who", {}, keys.ada)).content[0].text, "ada-at-example");
  equal("to nobody else", await standing(keys.bob), "disconnected");

  await ada.go(back.href);
  check("opened again: the page says that it was used",
    ada.status === 400 && (await ada.page.title()) === "Your account is not connected" && /was used before/.test(await ada.text()),
    `${ada.status} ${await ada.text()}`);
  await ada.holds("opened again", secrets);
  equal("which changes nothing", await standing(keys.ada), "connected");
  const twice = await Window.open();
  await twice.go(back.href);
  check("nor does it in another browser", twice.status === 400 && (await standing(keys.bob)) === "disconnected", twice.status);

  const bob = await Window.open();
  await bob.go(await connect(keys.bob));
  await bob.click("a[href$='/abort']");
  const declined = new URL(bob.page.url());
  check("declined: the page says so",
    bob.status === 400 && (await bob.page.title()) === "Example is not connected" && /declined|access_denied/.test(await bob.text()),
    `${bob.status} ${await bob.text()}`);
  await bob.holds("declined", [declined.searchParams.get("state")]);
  equal("declined: no account", await standing(keys.bob), "disconnected");
}

const EVIL = "update tickets set status = '<img src=x onerror=window.ran=1></pre><script>window.ran=1</script>'";

async function approvals() {
  const ask = async (sql) => {
    const result = await call("database:execute", { sql }, keys.ada);
    const link = /http:\/\/127\.0\.0\.1:\d+\/v1\/approvals\/apr_[0-9a-f]{32}/.exec(JSON.stringify(result))?.[0];
    check("a call that needs a person says where", result.isError && link?.startsWith(gateway), JSON.stringify(result));
    return link;
  };
  const link = await ask(EVIL);
  const person = await Window.open();
  const show = async (key, form = "form") => {
    await person.page.type(`${form} input[name=key]`, key);
    await person.click(`${form} button`);
  };

  await person.go(link);
  equal("a stranger gets a door", [person.status, await person.page.$$eval("form", (all) => all.length)], [401, 1]);
  check("which shows nothing of the call", !/tickets|execute|ada/.test(await person.text()), await person.text());
  await person.holds("the door", Object.values(keys));
  await person.by(() => person.page.reload());
  await show("inv_live_of_nobody");
  check("a key of nobody's opens nothing",
    person.status === 401 && !/tickets|execute/.test(await person.text()) && (await person.page.$("table")) === null,
    `${person.status} ${await person.text()}`);
  await show(keys.visitor);
  check("a key that has no business here sees no approval",
    person.status === 404 && (await person.text()).includes("There is no such approval for this key."),
    `${person.status} ${await person.text()}`);
  await show(keys.ada);
  check("the requester sees the call, and cannot decide",
    person.status === 200 && (await person.text()).includes("tickets") && (await person.page.$("form.approve")) === null,
    `${person.status} ${await person.text()}`);

  await show(keys.bob);
  const text = await person.text();
  check("who decides reads the call as it is",
    person.status === 200 && text.includes("database:execute") && text.includes("<img src=x onerror=window.ran=1></pre><script>"), text);
  equal("nothing of it is markup", await person.page.evaluate(() => [document.images.length, window.ran ?? false]), [0, false]);
  equal("the title", await person.page.title(), "Approval – Toolgate");
  equal("the key is not kept", await person.page.$$eval("input[name=key]", (all) => all.map((one) => one.value)), ["", ""]);
  equal("nor in the address", person.page.url(), link);
  await person.holds("the approval", Object.values(keys));
  await person.page.type("form.approve input[name=comment]", "as agreed");
  await show(keys.bob, "form.approve");
  check("it is approved",
    person.status === 200 && /You have approved this call\./.test(await person.text()) && /as agreed/.test(await person.text()),
    await person.text());
  await person.holds("approved", Object.values(keys));
  const made = await call("database:execute", { sql: EVIL }, keys.ada);
  check("the call is made", !made.isError, JSON.stringify(made));
  check("once", (await call("database:execute", { sql: EVIL }, keys.ada)).isError);
  await show(keys.bob);
  check("the page says that it was used", /\bIt is used\b/.test(await person.text()), await person.text());

  const second = "update tickets set status = 'closed'";
  await person.go(await ask(second));
  await show(keys.bob);
  const late = await Window.open();
  await late.go(person.page.url().replace(/\/(approve|deny)$/, ""));
  await late.page.type("input[name=key]", keys.bob);
  await late.click("form button");
  await person.page.type("form.deny input[name=comment]", "not on a Friday");
  await show(keys.bob, "form.deny");
  check("it is denied", person.status === 200 && /You have refused this call\./.test(await person.text()), await person.text());
  await person.holds("denied", Object.values(keys));
  const refused = await call("database:execute", { sql: second }, keys.ada);
  check("the agent is told why", refused.isError && JSON.stringify(refused).includes("not on a Friday"), JSON.stringify(refused));
  await late.page.type("form.approve input[name=key]", keys.bob);
  await late.click("form.approve button");
  check("who comes too late is told so", late.status === 409 && /denied/.test(await late.text()), `${late.status} ${await late.text()}`);
}

async function docs() {
  const reader = await Window.open();
  await reader.go(`${gateway}/docs`);
  equal("docs: the status", reader.status, 200);
  check("docs: the title", /^Toolgate \d/.test(await reader.page.title()), await reader.page.title());
  const found = await reader.page.evaluate(() => {
    const ids = new Set([...document.querySelectorAll("[id]")].map((one) => one.id));
    const links = [...document.querySelectorAll("a[href^='#']")].map((one) => one.getAttribute("href").slice(1));
    const shut = document.querySelector("details#invoke_tool table").checkVisibility();
    document.querySelector("details#invoke_tool summary").click();
    return {
      details: document.querySelectorAll("details").length,
      links: links.length,
      lost: links.filter((id) => !ids.has(id)),
      opens: [shut, document.querySelector("details#invoke_tool table").checkVisibility()],
    };
  });
  check("docs: doors and shapes", found.details > 80 && found.links > 80, JSON.stringify(found));
  equal("docs: every link inside leads somewhere", found.lost, []);
  equal("docs: a door opens", found.opens, [false, true]);
  await reader.page.click("details#invoke_tool a[href^='#']");
  check("docs: a link leads to its shape", new URL(reader.page.url()).hash.length > 1, reader.page.url());
  equal("docs: nothing else was asked for", [...new Set(reader.asked.map((url) => url.split("#")[0]))], [`${gateway}/docs`]);
  await reader.holds("docs");
}

for (const [name, part] of Object.entries({ accounts, approvals, docs })) {
  try {
    await part();
  } catch (error) {
    check(name, false, String(error.stack));
  }
}
check("the browser", true, await browser.version());
await browser.close();
