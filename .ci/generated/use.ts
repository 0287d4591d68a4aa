// What the generated types say is what the gateway answers: `tsc` reads this, then it runs.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const [url, key] = process.argv.slice(2) as [string, string];
const tell = (name: string, value: unknown) => console.log(JSON.stringify([name, value]));
const client = createClient<paths>({ baseUrl: url, headers: { "X-API-Key": key } });

/** The answer of a call that went well. */
function well<T>(done: { data?: T; error?: unknown }): T {
  if (done.data === undefined) throw new Error(JSON.stringify(done.error));
  return done.data;
}

const listed = well(await client.GET("/v1/mcps", { params: { query: { limit: 1 } } }));
const first: string = listed.data[0]!.id;
const next: string | null = listed.meta.next_cursor;
tell("tools", [first, listed.meta.limit, next !== null]);

const answer = well(
  await client.POST("/v1/mcps/{id}/invoke", { params: { path: { id: "github:list_repos" } }, body: { input: { limit: 1 } } }),
);
// 202 is an answer too: a person has to approve first.
if (!("result" in answer)) throw new Error(answer.error.message);
const decision: components["schemas"]["Decision"] = answer.governance.decision;
const event: string = answer.governance.audit_event_id;
const { repositories } = answer.result as { repositories: { name: string }[] };
tell("invoke_tool", [decision, repositories[0]!.name]);

const record = well(await client.GET("/v1/audit/events/{id}", { params: { path: { id: event } } }));
tell("record", [record.data["tool"], record.data["outcome"]]);

const body = { serverId: "github", toolName: "list_repos", arguments: { limit: 1 } };
const called = well(await client.POST("/api/v1/mcp/invoke", { body }));
if (!("result" in called)) throw new Error(called.error.message);
const invocation: string = called.invocationId;
tell("invoke", [called.success, invocation.length > 0]);

const refused = await client.POST("/api/v1/mcp/invoke", { body: { serverId: "github", toolName: "nothing" } });
const code: string | undefined = refused.error?.error.code;
tell("refused", [refused.response.status, code]);

const stranger = createClient<paths>({ baseUrl: url, headers: { "X-API-Key": "wrong" } });
const turned = await stranger.GET("/v1/mcps");
tell("stranger", [turned.response.status, turned.error?.error.code]);

// What the description does not have is no TypeScript: these lines are errors, or `tsc` says that they are none.
export const never = () => [
  // @ts-expect-error there is no such path
  client.GET("/v1/nothing"),
  // @ts-expect-error the server has to be named
  client.POST("/api/v1/mcp/invoke", { body: { toolName: "list_repos" } }),
  // @ts-expect-error a limit is a number
  client.GET("/v1/mcps", { params: { query: { limit: "1" } } }),
];
