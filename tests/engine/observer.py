"""In place of Grafana or Jaeger, in a container of its own: what `run_observe` asks of either.

It is a program of its own, without anything but Python's standard library.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROVISIONING = Path("/etc/grafana/provisioning")
PROXY = "/api/datasources/proxy/uid/prometheus"
SERVICE = re.compile(rb"service\.name\x12.\x0a.([a-z-]+)", re.DOTALL)
"""A resource's attribute in OTLP: its key, and the length and text of its value."""
traced: set[str] = set()


class Grafana(BaseHTTPRequestHandler):
    """Has the provisioned dashboard, and asks the provisioned data source."""

    def do_GET(self) -> None:
        """Answer as Grafana does at these two addresses."""
        if self.path.startswith(PROXY):
            given = (PROVISIONING / "datasources" / "hogsend.yaml").read_text()
            (url,) = re.findall(r'type: prometheus, url: "(http:[^"]+)"', given)
            with urllib.request.urlopen(url + self.path.removeprefix(PROXY)) as answer:  # noqa: S310
                body = answer.read()
        else:
            given = (PROVISIONING / "dashboards" / "hogsend.yaml").read_text()
            (directory,) = re.findall(r"path: (\S+)", given)
            dashboards = [json.loads(file.read_text()) for file in Path(directory).glob("*.json")]
            body = json.dumps({"dashboard": dashboards[0]}).encode()
        _answer(self, body)


class Jaeger(BaseHTTPRequestHandler):
    """Takes traces by OTLP, and names who sent them."""

    def do_POST(self) -> None:
        """Take traces."""
        body = self.rfile.read(int(self.headers["content-length"]))
        traced.update(name.decode() for name in SERVICE.findall(body))
        _answer(self, b"")

    def do_GET(self) -> None:
        """Name the services that were traced."""
        _answer(self, json.dumps({"data": sorted(traced)}).encode())


def _answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def main() -> None:
    """Serve what the image is in place of."""
    if sys.argv[1] == "grafana":
        ThreadingHTTPServer(("", 3000), Grafana).serve_forever()
    traces = ThreadingHTTPServer(("", 4318), Jaeger)
    threading.Thread(target=traces.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 16686), Jaeger).serve_forever()


if __name__ == "__main__":
    main()
