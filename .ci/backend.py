"""A small MCP backend over Streamable HTTP (2025-11-25, JSON answers) that remembers every call it carried out.

`read_note` reads, `write_note` writes, `add_tool` puts one more tool on the list and says so on open GET streams.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def tool(name, description, schema, **annotations):
    return {"name": name, "description": description, "inputSchema": schema, "annotations": annotations}


class Backend:
    """Serves on a free port of loopback until `close`."""

    def __init__(self):
        self.calls, self.changed = [], threading.Condition()
        self.tools = [
            tool("read_note", "Reads a note", TEXT, readOnlyHint=True),
            tool("write_note", "Writes a note", TEXT, readOnlyHint=False, destructiveHint=False),
            tool("add_tool", "Adds a tool to this server", {"type": "object"}, readOnlyHint=True),
        ]
        backend = self

        class Handler(Answering):
            owner = backend

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mcp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, params):
        """The result of a request, or None for a method that this server does not know."""
        if method == "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "notes", "version": "1"},
            }
        if method == "tools/list":
            return {"tools": self.tools}
        if method == "ping":
            return {}
        if method == "tools/call":
            return self.call(params["name"], params.get("arguments") or {})
        return None

    def call(self, name, arguments):
        with self.changed:
            self.calls.append((name, arguments))
            if name == "add_tool":
                extra = tool(f"extra_{len(self.tools)}", "Added later", {"type": "object"}, readOnlyHint=True)
                self.tools = [*self.tools, extra]
                self.changed.notify_all()
        text = f"{name}: {arguments.get('text', '')}"
        return {"content": [{"type": "text", "text": text}], "structuredContent": {"said": text}}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A peer that is killed breaks its connections: nothing to tell."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message:
            return self.reply(202, b"")
        result = self.owner.answer(message["method"], message.get("params") or {})
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        unknown = {"code": -32601, "message": "method not found"}
        answer |= {"error": unknown} if result is None else {"result": result}
        return self.reply(200, json.dumps(answer).encode())

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        known = len(self.owner.tools)
        try:
            while True:
                with self.owner.changed:
                    changed = self.owner.changed.wait_for(lambda: len(self.owner.tools) > known, 5)
                known = len(self.owner.tools)
                event = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode() if changed else b":\n\n")
                self.wfile.flush()
        except OSError:
            self.close_connection = True

    def do_DELETE(self):
        self.reply(200, b"")

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Mcp-Session-Id", "one")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
