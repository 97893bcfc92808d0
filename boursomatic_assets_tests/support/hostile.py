"""A web page of somebody else, open in the user's browser: what it can read and change of the Dagster UI."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
# Asset key that each attempt would report a materialization of.
KEY = "hostile"

# Each attempt ends in a text: what it could read, or why not. A change shows in the UI's own answers.
_PAGE = """<!doctype html><title>hostile</title><img src="@image"><iframe name="frame" src="@ui/overview"></iframe>
<form id="form" method="post" target="frame" action="@ui/report_asset_materialization/@key"></form>
<script>
const ui = "@ui", mutation = @mutation;
const query = ui + "/graphql?query=" + encodeURIComponent(mutation);
const read = (url, options) => fetch(url, options)
  .then(async answer => "read " + await answer.text())
  .catch(error => "refused");
const listen = () => new Promise(resolve => {
  const socket = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
  socket.onopen = () => socket.send('{"type":"connection_init"}');
  socket.onmessage = message => resolve("read " + message.data);
  socket.onerror = () => resolve("refused");
});
async function attack() {
  const json = JSON.stringify({query: mutation}), text = {"content-type": "text/plain; application/json"};
  const post = {method: "POST", body: json};
  const results = {
    get: await read(query),
    unread_get: await read(query, {mode: "no-cors"}),
    simple_post: await read(query, {method: "POST", mode: "no-cors"}),
    text_post: await read(ui + "/graphql", {...post, mode: "no-cors", headers: text}),
    json_post: await read(ui + "/graphql", {...post, headers: {"content-type": "application/json"}}),
    report: await read(ui + "/report_asset_materialization/@key", {method: "POST", mode: "no-cors"}),
    page: await read(ui + "/server_info"),
    socket: await listen(),
  };
  document.getElementById("form").submit();
  await new Promise(resolve => document.querySelector("iframe").addEventListener("load", resolve, {once: true}));
  return results;
}
</script>"""
_MUTATION = """mutation {
  reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, assetKey: {path: ["@key"]}}) {
    __typename
  }
}"""


@contextmanager
def hostile_page(ui: str) -> Iterator[str]:
    """Serve the page that attacks the UI on a port of its own; its address. `attack()` runs it."""
    mutation = _MUTATION.replace("@key", KEY)
    page = _PAGE.replace("@mutation", dumps(mutation)).replace("@image", f"{ui}/graphql?query={quote(mutation)}")
    content = page.replace("@ui", ui).replace("@key", KEY).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
