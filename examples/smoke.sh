#!/usr/bin/env bash
# Asks a running gateway whether it works; changes nothing. Needs curl only.
#
#   TOOLGATE_URL=http://127.0.0.1:8080 TOOLGATE_KEY=inv_live_... examples/smoke.sh
#
# INVOKE_BASE_URL and INVOKE_API_KEY are understood too.
set -euo pipefail

url=${TOOLGATE_URL:-${INVOKE_BASE_URL:-http://127.0.0.1:8080}}
url=${url%/}
key=${TOOLGATE_KEY:-${INVOKE_API_KEY:-}}
[ -n "$key" ] || { echo "no key: set TOOLGATE_KEY" >&2; exit 1; }

# ask NAME EXPECTED CURL-ARGUMENTS...: the answer must be HTTP 200 and hold EXPECTED.
ask() {
    local name=$1 expected=$2 answer status
    shift 2
    # The key goes in by a file descriptor, so that no process list shows it.
    answer=$(curl -sS --max-time 20 -w '\n%{http_code}' -H @<(printf 'X-API-Key: %s\n' "$key") "$@" "$url/v1/mcp") ||
        exit 1
    status=${answer##*$'\n'}
    answer=${answer%$'\n'*}
    if [ "$status" = 200 ] && [[ $answer == *"$expected"* ]]; then
        echo "ok      $name"
    else
        echo "FAILED  $name: HTTP $status, expected \`$expected\` in"
        echo "$answer"
        exit 1
    fi
}

rpc() {
    ask "$1" "$2" -H 'Content-Type: application/json' -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$3}"
}

ask 'GET /v1/mcp' '"name"'
rpc initialize '"protocolVersion"' \
    '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"smoke.sh","version":"1"}}'
rpc tools/list 'policy.simulate' '{}'
rpc tools/call '"decision"' \
    '{"name":"invoke.policy.simulate","arguments":{"action":"database.execute","params":{"sql":"drop table invoices"}}}'
