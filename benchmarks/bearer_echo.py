"""Answers requests for bearers with the same bytes always: what NATS alone makes of them."""

from __future__ import annotations

import uvloop

from benchmarks.echo import answer_always
from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply

REPLY = TokenReply(source="oauth", version=1, token="pha_bench" * 5)

if __name__ == "__main__":
    uvloop.run(answer_always(CREDENTIALS_TOKEN, REPLY))
