"""A client that openapi-python-client wrote calls the gateway and gets typed answers."""

import json, sys
from toolgate_client import AuthenticatedClient, Client
from toolgate_client.api.audit import audit_event
from toolgate_client.api.calls import call, invoke, invoke_tool
from toolgate_client.api.directory import public_tools, server, servers, tools
from toolgate_client.api.keys import create_key, list_keys, revoke_key
from toolgate_client.api.tokens import issue_token
from toolgate_client.models import InvokeInput, InvokeRequest, NewKey, TokenRequest, ToolCallRequest

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
tell = lambda name, value: print(json.dumps([name, value]))

request = InvokeRequest.from_dict({"serverId": "github", "toolName": "list_repos", "arguments": {"limit": 1}})
answer = invoke.sync(client=client, body=request)
tell("invoke", [type(answer).__name__, answer.success, answer.result.to_dict()["structuredContent"]["repositories"][0]["name"]])
request = InvokeRequest.from_dict({"serverId": "github", "toolName": "nothing"})
refused = invoke.sync_detailed(client=client, body=request)
tell("refused", [refused.status_code, type(refused.parsed).__name__, refused.parsed.error.code])
answer = call.sync(client=client, body=ToolCallRequest.from_dict({"tool": "github:list_repos", "arguments": {"limit": 1}}))
tell("call", [answer.ok, answer.content[0].type_])
answer = invoke_tool.sync("github:list_repos", client=client, body=InvokeInput.from_dict({"input": {"limit": 1}}))
tell("invoke_tool", [answer.governance.decision, answer.result["repositories"][0]["name"]])
record = audit_event.sync(answer.governance.audit_event_id, client=client)
tell("record", [record.data["tool"], record.data["outcome"]])
listed = tools.sync(client=client, limit=1)
tell("tools", [listed.data[0].id, listed.meta.limit, listed.meta.next_cursor is not None])
token = issue_token.sync(client=client, body=TokenRequest.from_dict({"type": "user"})).data
holder = AuthenticatedClient(base_url=url, token=token.access_token)
tell("token", [token.access_token[:9], tools.sync(client=holder, limit=1).data[0].id])
page = servers.sync(client=client, first=1)
tell("servers", [page.servers[0].id, page.page_info.has_next_page])
one = server.sync("local", "github", client=client)
tell("server", sorted(tool.name for tool in one.tools))
tell("public", [tool.name for tool in public_tools.sync(client=Client(base_url=url)).tools])
made = create_key.sync("ana", client=client, body=NewKey.from_dict({"name": "made", "profile": "agent"}))
tell("made", [made.profile, made.key.startswith("inv_live_")])
tell("listed", [item.id == made.id for item in list_keys.sync("ana", client=client).keys])
tell("revoked", revoke_key.sync_detailed("ana", made.id, client=client).status_code)
stranger = invoke.sync_detailed(client=AuthenticatedClient(base_url=url, token="wrong"), body=request)
tell("stranger", [stranger.status_code, stranger.parsed.error.code])
