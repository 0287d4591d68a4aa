// The conformance suite sends no key. This adds one to every request and passes everything else on as it is,
// Host and Origin too, so that the gateway is tested with its keys on.
//
// node with-key.mjs HOST:PORT KEY: prints its own port
import http from "node:http";

const [target, key] = process.argv.slice(2);
const { hostname: host, port } = new URL(`http://${target}`);

const proxy = http.createServer((request, response) => {
  const headers = [...request.rawHeaders, "X-API-Key", key];
  const onward = http.request({ host, port, method: request.method, path: request.url, headers, setHost: false });
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});

proxy.listen(0, "127.0.0.1", () => console.log(proxy.address().port));
