// The TypeScript SDKs as clients. node sdk.mjs v1|legacy|auto|modern URL HEADER VALUE
// Speaks the protocol of clients/run.py: one JSON line after the first round, one after each line on stdin.
import readline from "node:readline";

const [kind, url, header, value] = process.argv.slice(2);
const info = { name: `ci-${kind}`, version: "1" };
const requestInit = { headers: { [header]: value } };

async function connected() {
  if (kind === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(info);
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const mode = { legacy: "legacy", auto: "auto", modern: { pin: "2026-07-28" } }[kind];
  const client = new Client(info, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
  return client;
}

const client = await connected();
const call = (name, args) => client.callTool({ name, arguments: args });
const invoke = async (text) => {
  const result = await call("gateway_invoke", { server: "notes", tool: "write_note", arguments: { text } });
  return result.content[0].text;
};

const { tools } = await client.listTools();
const simulated = await call("policy_simulate", { server: "notes", tool: "write_note", arguments: { text: "x" } });
const first = { tools: tools.map((tool) => tool.name), decision: simulated.structuredContent.decision };
console.log(JSON.stringify({ ...first, invoked: await invoke("one") }));

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ invoked: await invoke(line) }));
}
await client.close();
