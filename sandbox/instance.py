"""The state of one sandbox, in memory."""

from __future__ import annotations

from sandbox.clock import Clock
from sandbox.delivery.deliveries import Deliveries
from sandbox.faults import Faults
from sandbox.flags import Flags
from sandbox.functions.store import HogFunctions
from sandbox.ingestion.people import People
from sandbox.ingestion.pipeline import Pipeline
from sandbox.oauth.authorization import Authorizations
from sandbox.oauth.documents import Documents
from sandbox.oauth.grants import Grants
from sandbox.oauth.id_tokens import IdTokens
from sandbox.oauth.introspection import Introspection
from sandbox.options import Options
from sandbox.project import project_of


class Instance:
    """The state of one PostHog, and the domain objects that change it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.project = project_of(options)
        self.faults = Faults()
        self.clock = Clock()
        self.id_tokens = IdTokens(self.clock, options.url)
        self._start_empty()

    def _start_empty(self) -> None:
        options = self.options
        self.documents = Documents(
            self.clock, allow_http=options.allow_http_clients, offline=options.offline_documents
        )
        self.grants = Grants(
            self.clock,
            self.id_tokens,
            token_seconds=options.token_seconds,
            grace_seconds=options.grace_seconds,
            rotate=options.rotate_refresh_tokens,
        )
        self.authorizations = Authorizations(self.documents, self.grants)
        self.introspection = Introspection(self.clock, self.documents, self.grants)
        self.functions = HogFunctions(
            self.clock, data_pipelines=options.data_pipelines, signing=options.webhook_signing
        )
        self.people = People(self.clock)
        self.flags = Flags()
        self.deliveries = Deliveries(self.clock, self.functions, options)
        self.pipeline = Pipeline(options.project_key, self.people, self.deliveries.start)

    async def reset(self) -> None:
        """Delete all state: events, persons, functions, tokens, flags, faults and clock offset."""
        await self.close()
        self.clock.offset = 0.0
        self._start_empty()

    async def close(self) -> None:
        """Remove the faults and stop delivering."""
        self.faults.replace({})
        await self.deliveries.close()
