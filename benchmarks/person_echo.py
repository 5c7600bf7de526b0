"""Answers requests for persons with the same one always: what NATS alone makes of them."""

from __future__ import annotations

import uvloop

from benchmarks.echo import answer_always
from benchmarks.persons import PROPERTIES
from hogsend.contract.persons import ANALYTICS_PERSON, Person

if __name__ == "__main__":
    uvloop.run(answer_always(ANALYTICS_PERSON, Person(PROPERTIES)))
