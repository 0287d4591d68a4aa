"""Accounts with a real OpenID provider, the npm package `oidc-provider`: a person signs in on its pages and consents.

The pages are driven by HTTP as a browser does it (cookies, redirects, forms); `.ci/long/browser` drives them with a real one.
"""

import contextlib
import html.parser
import http.cookiejar
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from gateway import Gateway, Tally  # noqa: E402
from provider import CONFIG, free_port, provider, user  # noqa: E402


class Form(html.parser.HTMLParser):
    """The form of a page, and the link that calls it off."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.abort = None, {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.action = attributes["action"]
        elif tag == "input" and "name" in attributes:
            self.fields[attributes["name"]] = attributes.get("value") or ""
        elif tag == "a" and attributes.get("href", "").endswith("/abort"):
            self.abort = attributes["href"]


class Browser:
    """Somebody's browser: it keeps cookies and follows redirects."""

    def __init__(self):
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        self.url, self.status, self.headers, self.page = None, None, None, ""
        self.back = None

    def open(self, url, fields=None):
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        try:
            answer = self.opener.open(urllib.parse.urljoin(self.url or "", url), data, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.url, self.status, self.headers = answer.url, answer.status, answer.headers
            self.page = answer.read().decode()
        return self

    def agree(self, url, login):
        """Signs in, consents, is sent back, and says yes to the gateway's question too."""
        self.open(url)
        for _ in range(4):
            form = Form(self.page)
            if form.action is None:
                break
            if "/callback?" in self.url:
                self.back = self.url
            fields = dict(form.fields)
            if "login" in fields:
                fields |= {"login": login, "password": "any"}
            self.open(form.action, fields)
        return self


def connect(gateway, key):
    status, _, body = gateway.request("POST", "/v1/providers/example/connect", None, {"X-API-Key": key})
    return status, json.loads(body)


def standing(gateway, key):
    return json.loads(gateway.request("GET", "/v1/providers", None, {"X-API-Key": key})[2])["data"][0]


def who(gateway, key):
    return gateway.call("up:who", {}, key)["content"][0]["text"]


def seen(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/seen", timeout=10) as answer:
        return json.loads(answer.read())


def journey(tally, gateway, port):
    ada, bob = user(gateway, "ada"), user(gateway, "bob")
    refused = gateway.call("up:who", {}, ada)
    tally.check("without an account: where to connect one", "/v1/providers/example/connect" in json.dumps(refused), refused)
    status, begun = connect(gateway, ada)
    url = begun.get("data", {}).get("url", "")
    tally.check("connect says where to go", status == 200 and "code_challenge_method=S256" in url, begun)
    browser = Browser().agree(url, "ada-at-example")
    tally.check("the person lands on a page that says so",
                browser.status == 200 and "is connected" in browser.page and "ada" in browser.page,
                f"{browser.status} {browser.url} {browser.page}")
    policy = browser.headers.get("content-security-policy", "")
    tally.check("the page runs nothing", policy.startswith("default-src 'none'") and "<script" not in browser.page, policy)
    tally.equal("the tool is called with her account", who(gateway, ada), "ada-at-example")
    tally.check("it has asked before", "code=" in (browser.back or ""), browser.back)
    tally.equal("the address works once", browser.open(browser.back).status, 400)
    Browser().agree(connect(gateway, bob)[1]["data"]["url"], "bob-at-example")
    tally.equal("another user has another account", who(gateway, bob), "bob-at-example")
    tally.equal("and hers is still hers", who(gateway, ada), "ada-at-example")

    before = seen(port)["refreshed"]
    time.sleep(4)
    tally.equal("a token that is about to end is renewed", who(gateway, ada), "ada-at-example")
    tally.equal("once", seen(port)["refreshed"], before + 1)
    status, _, body = gateway.request("POST", "/v1/providers/example/refresh", None, {"X-API-Key": ada})
    tally.check("it is renewed when asked for", status == 200 and seen(port)["refreshed"] == before + 2, body)
    gateway.restart()
    gateway.wait_ready()
    tally.equal("accounts outlive a restart", who(gateway, ada), "ada-at-example")
    listed = gateway.cli("providers", "list")
    tally.check("the operator sees the provider", re.search(r"example +Example .* up", listed.stdout), listed.stdout)
    rotated = gateway.cli("providers", "rotate", "--json")
    tally.equal("and another secret", json.loads(rotated.stdout or "{}"), {"resealed": 2, "lost": 0})
    tally.equal("which opens them", who(gateway, bob), "bob-at-example")

    cancelled = Browser().open(connect(gateway, ada)[1]["data"]["url"])
    cancelled.open(Form(cancelled.page).abort)
    tally.check("who calls it off is told so", cancelled.status == 400 and "access_denied" in cancelled.page, cancelled.page)
    tally.equal("which changes nothing", standing(gateway, ada)["state"], "connected")

    status, _, body = gateway.request("DELETE", "/v1/providers/example", None, {"X-API-Key": ada})
    tally.check("an account is given up", status == 200 and json.loads(body)["data"]["disconnected"], body)
    end = time.monotonic() + 10
    while seen(port)["revoked"] == 0 and time.monotonic() < end:
        time.sleep(0.1)
    tally.equal("and the provider is told", seen(port)["revoked"], 1)
    tally.check("it is of use no more", "/v1/providers/example/connect" in json.dumps(gateway.call("up:who", {}, ada)))


def secrets(tally, gateway, port):
    """No code and no token stands in the log, or in any file of the gateway's."""
    texts = [gateway.stderr.encode()]
    for folder, _, names in os.walk(gateway.folder):
        for name in names:
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                texts.append(file.read())
    issued = seen(port)["issued"]
    found = [token for token in issued if any(token.encode() in text for text in texts)]
    tally.check("no token lies open anywhere", len(issued) > 5 and not found, f"{len(found)} of {len(issued)}")


def main():
    tally = Tally("providers")
    own = free_port()
    with provider(own) as port:
        gateway = Gateway(CONFIG.format(port=port), log="debug")
        gateway.listen = f"127.0.0.1:{own}"
        with gateway:
            gateway.wait_ready()
            with tally.part("accounts"):
                journey(tally, gateway, port)
            with tally.part("secrets"):
                secrets(tally, gateway, port)
    tally.finish()


if __name__ == "__main__":
    sys.exit(main())
