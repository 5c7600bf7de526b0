"""Replies to token requests with a constant token, to measure NATS and the chassis alone."""

from __future__ import annotations

import uvloop

from benchmarks.echo import serve_constant_reply
from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply

REPLY = TokenReply(source="oauth", version=1, token="pha_bench" * 5)

if __name__ == "__main__":
    uvloop.run(serve_constant_reply(CREDENTIALS_TOKEN, REPLY))
