// The TypeScript SDKs as clients that can be asked: node asks.mjs v1|legacy|auto|modern URL HEADER VALUE CALLS
// CALLS is a list of [tool, arguments]. Prints one line of JSON: the tools, the text of each answer, what was asked.
const [kind, url, header, value, calls] = process.argv.slice(2);
const info = { name: `ci-${kind}`, version: "1" };
const requestInit = { headers: { [header]: value } };
const capabilities = { sampling: {}, elicitation: {} };
const asked = [];

const model = async ({ params }) => {
  asked.push("sampling");
  const text = `model: ${params.messages[0].content.text}`;
  return { role: "assistant", content: { type: "text", text }, model: "ci", stopReason: "endTurn" };
};
const blanks = { string: "text", integer: 1, number: 1.5, boolean: true, array: [] };
const user = async ({ params }) => {
  asked.push("elicitation");
  const fields = Object.entries(params.requestedSchema.properties);
  const content = fields.map(([name, field]) => [name, field.default ?? field.enum?.[0] ?? blanks[field.type]]);
  const plain = content.filter(([name]) => !["email", "homepage", "birthdate"].includes(name));
  return { action: "accept", content: Object.fromEntries(fields.length > 4 ? plain : content) };
};

async function connected() {
  if (kind === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { CreateMessageRequestSchema, ElicitRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
    const client = new Client(info, { capabilities });
    client.setRequestHandler(CreateMessageRequestSchema, model);
    client.setRequestHandler(ElicitRequestSchema, user);
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const mode = { legacy: "legacy", auto: "auto", modern: { pin: "2026-07-28" } }[kind];
  const client = new Client(info, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler("sampling/createMessage", model);
  client.setRequestHandler("elicitation/create", user);
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
  return client;
}

const client = await connected();
const { tools } = await client.listTools();
const answers = [];
for (const [name, args] of JSON.parse(calls)) {
  const { content } = await client.callTool({ name, arguments: args });
  answers.push(content.map((block) => block.text ?? block.type).join("\n"));
}
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), answers, asked }));
await client.close();
process.exit(0);
