"""MCP clients of both eras over Streamable HTTP, that say on the wire what they are told to and keep what they get.

Only the standard library is used: what these send is what a suite decides, not what an SDK would make of it.
"""

import base64
import contextlib
import http.client
import itertools
import json
import threading
import urllib.parse

PREFIX = "io.modelcontextprotocol/"
INFO = {"name": "ci", "version": "1"}
CAPABILITIES = {"sampling": {}, "elicitation": {}, "roots": {}}


class RpcError(Exception):
    """An error that the server answered."""

    def __init__(self, error):
        super().__init__(json.dumps(error))
        self.code = error.get("code") if isinstance(error, dict) else None


def filled(schema):
    """The defaults of a form, and something that fits where there is none."""
    blank = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": []}
    chosen = {}
    for name, it in schema.get("properties", {}).items():
        chosen[name] = it.get("default", (it.get("enum") or [blank.get(it.get("type"))])[0])
    return chosen


def answered(method, params):
    """What a user, a model and a file system answer to a server that asks."""
    if method == "elicitation/create":
        return {"action": "accept", "content": filled(params.get("requestedSchema", {}))}
    if method == "sampling/createMessage":
        said = params["messages"][-1]["content"]
        text = f"model: {said.get('text', '')}"
        return {"role": "assistant", "content": {"type": "text", "text": text}, "model": "ci", "stopReason": "endTurn"}
    if method == "roots/list":
        return {"roots": [{"uri": "file:///ci", "name": "ci"}]}
    return {} if method == "ping" else None


class Client:
    """What both eras share: POST, and reading the answer as JSON or from a stream."""

    def __init__(self, url, headers=None):
        self.url, self.more = urllib.parse.urlsplit(url), headers or {}
        self.ids, self.asked, self.told, self.capabilities = itertools.count(1), [], [], CAPABILITIES

    def _post(self, message, headers, timeout=30):
        """Sends a message; the answer to it, None for what has none."""
        standard = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        connection = http.client.HTTPConnection(self.url.netloc, timeout=timeout)
        with contextlib.closing(connection):
            path = self.url.path or "/"
            connection.request("POST", path, json.dumps(message), standard | headers | self.more)
            answer = connection.getresponse()
            self.heard(answer)
            if "id" not in message or "method" not in message:
                return None
            if "text/event-stream" in (answer.getheader("Content-Type") or ""):
                return self._stream(answer, message["id"])
            return self._decoded(answer.status, answer.read())

    def heard(self, answer):
        """Looks at the head of an answer."""

    @staticmethod
    def _decoded(status, body):
        try:
            return json.loads(body)
        except ValueError:
            raise RuntimeError(f"HTTP {status} with {body[:300]!r}") from None

    def _stream(self, answer, wanted):
        """Reads events until the answer is there. What comes before it is kept, and answered where it asks."""
        for message in self._events(answer):
            if message.get("id") == wanted and "method" not in message:
                return message
            self.take(message)
        raise RuntimeError("the stream ended without an answer")

    @staticmethod
    def _events(answer):
        """The messages of a stream, without its priming events and comments."""
        data = []
        for line in answer:
            line = line.decode().rstrip("\r\n")
            if line.startswith("data:"):
                data.append(line[5:].lstrip(" "))
            elif not line and data:
                text, data = "\n".join(data), []
                if text.strip():
                    yield json.loads(text)

    def take(self, message):
        """A message of the server's own."""
        self.told.append(message)

    @staticmethod
    def _result(answer):
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def every(self, method, member):
        """All pages of a list."""
        page = self.ask(method)
        found = page[member]
        while "nextCursor" in page:
            page = self.ask(method, {"cursor": page["nextCursor"]})
            found += page[member]
        return found


class Legacy(Client):
    """A client that opens with `initialize`."""

    VERSION = "2025-11-25"

    def open(self):
        self.session = None
        parameters = {"protocolVersion": self.VERSION, "capabilities": self.capabilities, "clientInfo": INFO}
        self.server = self.ask("initialize", parameters)
        self.notify("notifications/initialized")
        return self

    def listen(self):
        """Opens the stream for what belongs to no request, and returns when it is open. It ends with the program."""
        connection = http.client.HTTPConnection(self.url.netloc)
        headers = {"Accept": "text/event-stream"} | self.headers() | self.more
        connection.request("GET", self.url.path or "/", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return self

        def follow():
            with contextlib.suppress(OSError, http.client.HTTPException):
                for message in self._events(answer):
                    self.take(message)

        threading.Thread(target=follow, daemon=True).start()
        return self

    def heard(self, answer):
        self.session = answer.getheader("Mcp-Session-Id") or self.session

    def headers(self):
        return {"MCP-Protocol-Version": self.VERSION} | ({"Mcp-Session-Id": self.session} if self.session else {})

    def ask(self, method, params=None):
        message = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params or {}}
        return self._result(self._post(message, self.headers()))

    def notify(self, method):
        self._post({"jsonrpc": "2.0", "method": method}, self.headers())

    def take(self, message):
        super().take(message)
        if "id" not in message:
            return
        self.asked.append(message)
        result = answered(message["method"], message.get("params", {}))
        answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": "not here"}}
        # Beside the stream that is being read.
        answer = {"jsonrpc": "2.0", "id": message["id"]} | answer
        threading.Thread(target=self._post, args=(answer, self.headers()), daemon=True).start()

    def call(self, name, arguments=None):
        return self.ask("tools/call", {"name": name, "arguments": arguments or {}})


class Modern(Client):
    """A client of 2026-07-28: no session, everything in each request."""

    VERSION = "2026-07-28"
    ROUNDS = 10

    def open(self):
        self.tools = {}
        try:
            self.server = self.ask("server/discover")
        except RpcError as error:
            if error.code != -32022:
                raise
            # There is no other revision to turn to: once more with the same one.
            self.server = self.ask("server/discover")
        return self

    def ask(self, method, params=None, headers=None):
        """One request; what the server asks for is given in further rounds."""
        params, given = dict(params or {}), {}
        for _ in range(self.ROUNDS):
            result = self.once(method, params | given, headers)
            if result.get("resultType") != "input_required":
                return result
            self.asked += result.get("inputRequests", {}).values()
            responses = {
                key: answered(asked["method"], asked.get("params", {}))
                for key, asked in result.get("inputRequests", {}).items()
            }
            given = {"inputResponses": responses}
            if "requestState" in result:
                given["requestState"] = result["requestState"]
        raise RuntimeError("the server never stops asking")

    def once(self, method, params, headers=None):
        """One round: the result as it is."""
        meta = {PREFIX + "protocolVersion": self.VERSION, PREFIX + "clientInfo": INFO,
                PREFIX + "clientCapabilities": self.capabilities}
        message = {"jsonrpc": "2.0", "id": next(self.ids), "method": method}
        message["params"] = params | {"_meta": meta | params.get("_meta", {})}
        standard = {"MCP-Protocol-Version": self.VERSION, "Mcp-Method": method}
        named = params.get("taskId" if method.startswith("tasks/") else "uri" if method == "resources/read" else "name")
        if isinstance(named, str):
            standard["Mcp-Name"] = header(named)
        return self._result(self._post(message, standard | (headers or {})))

    def call(self, name, arguments=None):
        """A tool call, with the headers that the tool's schema asks for where the tool has been listed."""
        arguments = arguments or {}
        properties = self.tools.get(name, {}).get("inputSchema", {}).get("properties", {})
        mirrored = {
            f"Mcp-Param-{schema['x-mcp-header']}": header(arguments[member])
            for member, schema in properties.items()
            if "x-mcp-header" in schema and arguments.get(member) is not None
        }
        return self.ask("tools/call", {"name": name, "arguments": arguments}, mirrored)

    def every(self, method, member):
        found = super().every(method, member)
        if method == "tools/list":
            self.tools = {tool["name"]: tool for tool in found}
        return found


def header(value):
    """A value as a header carries it: in Base64 where it would not survive otherwise."""
    text = json.dumps(value) if not isinstance(value, str) else value
    plain = all(" " <= character <= "~" for character in text) and text == text.strip()
    if plain and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="
