"""Receives Hogsend's notices (OPERATOR_WEBHOOK_URL), and prints them."""

import contextlib
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            Webhook(os.environ["OPERATOR_WEBHOOK_SECRET"]).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(401)
            return
        notice = json.loads(body)
        print(notice["type"], notice["data"]["state"], notice["data"]["detail"], flush=True)
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8099"))), Receiver)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
