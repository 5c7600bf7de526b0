"""A stand-in for Grafana and for Jaeger that handles the requests of `run_observe`.

It runs in a container, with nothing but Python's standard library.
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
"""The attribute `service.name` in OTLP: its key, and the length and text of its value."""
traced: set[str] = set()


class Grafana(BaseHTTPRequestHandler):
    """Serves the provisioned dashboard, and forwards queries to the provisioned data source."""

    def do_GET(self) -> None:
        """Respond as Grafana does at these two addresses."""
        if self.path.startswith(PROXY):
            config = (PROVISIONING / "datasources" / "hogsend.yaml").read_text()
            (url,) = re.findall(r'type: prometheus, url: "(http:[^"]+)"', config)
            with urllib.request.urlopen(url + self.path.removeprefix(PROXY)) as response:  # noqa: S310
                body = response.read()
        else:
            config = (PROVISIONING / "dashboards" / "hogsend.yaml").read_text()
            (directory,) = re.findall(r"path: (\S+)", config)
            dashboards = [json.loads(file.read_text()) for file in Path(directory).glob("*.json")]
            body = json.dumps({"dashboard": dashboards[0]}).encode()
        _respond(self, body)


class Jaeger(BaseHTTPRequestHandler):
    """Accepts traces over OTLP, and lists the services that sent them."""

    def do_POST(self) -> None:
        """Accept traces."""
        body = self.rfile.read(int(self.headers["content-length"]))
        traced.update(name.decode() for name in SERVICE.findall(body))
        _respond(self, b"")

    def do_GET(self) -> None:
        """List the services that sent traces."""
        _respond(self, json.dumps({"data": sorted(traced)}).encode())


def _respond(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def main() -> None:
    """Serve as the product that is named by the argument."""
    if sys.argv[1] == "grafana":
        ThreadingHTTPServer(("", 3000), Grafana).serve_forever()
    traces = ThreadingHTTPServer(("", 4318), Jaeger)
    threading.Thread(target=traces.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 16686), Jaeger).serve_forever()


if __name__ == "__main__":
    main()
