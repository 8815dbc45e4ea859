"""A bucket of Google Cloud Storage on this machine: enough of its JSON API to list and to read objects."""

import contextlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from types import MappingProxyType


@contextlib.contextmanager
def serve(objects: Mapping[str, bytes], refusal: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Serves objects by "bucket/name"; gives the address and the list of requests, which grows.

    With `refusal`, an HTTP status, nothing is served.
    """
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            match = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", url.path)
            bucket, name = match[1], urllib.parse.unquote(match[2] or "")
            if refusal:
                error = {"code": refusal, "message": "Anonymous caller does not have storage.objects.list access"}
                self._reply(refusal, json.dumps({"error": error}).encode())
            elif not name:
                self._reply(200, json.dumps(self._listing(bucket, query)).encode())
            elif f"{bucket}/{name}" not in objects:
                self._reply(404, b'{"error": {"code": 404, "message": "No such object"}}')
            elif query.get("alt") == "media":
                self._media(objects[f"{bucket}/{name}"])
            else:
                self._reply(200, json.dumps(self._metadata(bucket, name)).encode())

        def _listing(self, bucket: str, query: Mapping[str, str]) -> dict[str, object]:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            items, prefixes = [], set()
            for name in (key.partition("/")[2] for key in sorted(objects) if key.startswith(f"{bucket}/{prefix}")):
                inside, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if cut:
                    prefixes.add(prefix + inside + cut)
                else:
                    items.append(self._metadata(bucket, name))
            return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}

        def _metadata(self, bucket: str, name: str) -> dict[str, object]:
            size = str(len(objects[f"{bucket}/{name}"]))
            return {"kind": "storage#object", "bucket": bucket, "name": name, "size": size, "generation": "1"}

        def _media(self, content: bytes) -> None:
            start, end = 0, len(content)
            match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if match and match[1]:
                start, end = int(match[1]), min(int(match[2] or end) + 1, end) if match[2] else end
            elif match:
                start = max(0, end - int(match[2]))
            part = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if match else {}
            self._reply(206 if match else 200, content[start:end], part)

        def _reply(self, status: int, content: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a reader that has enough hangs up
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
