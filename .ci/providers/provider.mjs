// A real OpenID provider (oidc-provider) with its own pages for signing in and for consent, and an MCP server beside it whose
// one tool says whose access token it was called with.
// node provider.mjs PORT REDIRECT_URI: prints a line when it listens.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "toolgate",
      client_secret: "a-secret-between-the-two",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [redirect],
    },
  ],
  features: { devInteractions: { enabled: true }, revocation: { enabled: true }, resourceIndicators: { enabled: false } },
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  pkce: { required: () => true },
  // A token is renewed when it has half a minute to live: these soon have.
  ttl: { AccessToken: 33, RefreshToken: 3600, Grant: 3600, Interaction: 600, Session: 3600, IdToken: 60, AuthorizationCode: 60 },
  cookies: { keys: ["one key of the suite"] },
});
const seen = { issued: [], refreshed: 0, revoked: 0 };
for (const kind of ["access_token", "refresh_token", "authorization_code"])
  provider.on(`${kind}.saved`, (token) => seen.issued.push(token.jti));
provider.on("grant.success", (ctx) => (seen.refreshed += ctx.oidc.params.grant_type === "refresh_token" ? 1 : 0));
provider.on("grant.revoked", () => (seen.revoked += 1));

const definition = {
  name: "who",
  description: "Whose account this is",
  inputSchema: { type: "object" },
  annotations: { readOnlyHint: true },
};

async function mcp(request, response) {
  if (request.method !== "POST") return response.writeHead(405).end();
  let text = "";
  for await (const chunk of request) text += chunk;
  const { id, method, params } = JSON.parse(text);
  const say = (result) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id, ...result }));
  };
  if (id === undefined) return response.writeHead(202).end();
  if (method === "initialize")
    return say({
      result: {
        protocolVersion: params.protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: "whose", version: "1" },
      },
    });
  if (method === "tools/list") return say({ result: { tools: [definition] } });
  if (method !== "tools/call") return say({ error: { code: -32601, message: "no such method" } });
  const bearer = request.headers.authorization?.replace(/^Bearer /, "");
  const token = bearer && (await provider.AccessToken.find(bearer));
  if (!token) return response.writeHead(401, { "www-authenticate": "Bearer" }).end();
  say({ result: { content: [{ type: "text", text: token.accountId }] } });
}

const pages = provider.callback();
createServer((request, response) => {
  if (request.url === "/mcp") return mcp(request, response);
  if (request.url === "/seen") return response.end(JSON.stringify(seen));
  pages(request, response);
}).listen(Number(port), "127.0.0.1", () => console.log(`listening on ${issuer}`));
