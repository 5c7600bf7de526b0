"""Replies to person requests with a constant person, to measure NATS and the chassis alone."""

from __future__ import annotations

import uvloop

from benchmarks.echo import serve_constant_reply
from benchmarks.persons import PROPERTIES
from hogsend.contract.persons import ANALYTICS_PERSON, Person

if __name__ == "__main__":
    uvloop.run(serve_constant_reply(ANALYTICS_PERSON, Person(PROPERTIES)))
