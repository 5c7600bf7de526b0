"""What can be set for the gateway."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hogsend.contract.streams import MIB
from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import (
    AnyCase,
    CommaSeparated,
    FilePath,
    HeaderSecret,
    ListeningHost,
    OptionalPort,
    Port,
    PreviousKeys,
    PreviousSigningSecrets,
    SigningSecret,
    Url,
)
from hogsend.urls import host_and_port
from services.gateway.client_address import parse_network


class GatewaySettings(Settings):
    """Gateway: HTTP, API keys, the webhook queue and its spool."""

    renamed: ClassVar = {"http_patience_seconds": "http_request_timeout_seconds"}

    gateway_host: ListeningHost = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: Port = Field(3002, description="Port the gateway listens on.")
    gateway_share_port: bool = Field(
        default=False,
        description="Whether several gateways may listen on one port of one machine (Linux gives "
        "each its part). Otherwise the second one does not start.",
    )
    gateway_workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Processes that accept from the gateway's port, one for each core it is to "
        "use. They share `GATEWAY_MAX_CONNECTIONS`, `SPOOL_MAX_BYTES` and the limits of keys; "
        "each has its own connection to NATS, and 64 MiB for the bodies of requests.",
    )
    gateway_liveness_port: OptionalPort = Field(
        0,
        description="Port that answers `/livez` and nothing else, also while all connections are "
        "taken: for a supervisor's liveness probe, not for the public. 0 is none.",
    )
    gateway_max_connections: Annotated[int, Field(ge=16)] = Field(
        12288,
        description="Connections that are open at the same time, idle ones included; more wait. "
        "The limit for open files is raised for it as far as the system allows.",
    )
    console: bool | None = Field(
        None,
        description="Whether the gateway serves the console at `/console`, where operators sign in "
        "with a key. Unset, only while it listens on loopback.",
    )
    admin_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer for `/v1/admin/*`. Unset, every admin request is 401; "
        "`make up` generates one.",
    )
    admin_read_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer that may only read: events, contacts, dead letters, destinations, "
        "backfills, capabilities, the diagnosis and metrics. Whatever changes something, exports a "
        "person, or concerns credentials or the audit trail answers it 403.",
    )
    ingest_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer that may only report events (`POST /v1/events`) and contacts "
        "(`PUT /v1/contacts`), and evaluate flags; `ADMIN_API_KEY` may, too.",
    )
    admin_api_key_previous: PreviousKeys = Field(
        (),
        description="Earlier `ADMIN_API_KEY`s that are still valid, separated by commas, or a "
        "JSON list.",
    )
    admin_read_api_key_previous: PreviousKeys = Field(
        (),
        description="Earlier `ADMIN_READ_API_KEY`s that are still valid, separated by commas, or a "
        "JSON list.",
    )
    ingest_api_key_previous: PreviousKeys = Field(
        (),
        description="Earlier `INGEST_API_KEY`s that are still valid, separated by commas, or a "
        "JSON list.",
    )
    posthog_webhook_secret_previous: PreviousKeys = Field(
        (),
        description="Earlier `POSTHOG_WEBHOOK_SECRET`s that deliveries may still carry, separated "
        "by commas, or a JSON list.",
    )
    posthog_signing_secret_previous: PreviousSigningSecrets = Field(
        (),
        description="Earlier `POSTHOG_SIGNING_SECRET`s that deliveries may still be signed with, "
        "separated by commas, or a JSON list.",
    )
    webhook_signatures: AnyCase[Literal["verify", "required"]] = Field(
        "verify",
        description="`required` refuses webhooks that are not signed, and provisioning where "
        "PostHog cannot sign. A signature that is wrong is always refused.",
    )
    admin_failed_key_limit: Annotated[int, Field(ge=1)] = Field(
        30,
        description="Wrong keys a minute from one address, or of one value; more are answered 429 "
        "until the minute is over. A right key is never refused for them.",
    )
    trusted_proxies: CommaSeparated = Field(
        (),
        description="Addresses and networks (`10.0.0.0/8`) of proxies in front of the gateway, "
        "separated by commas. What they say in `X-Forwarded-For` or `Forwarded` is the client's "
        "address, for limits, the audit trail and logs.",
    )
    admin_rate_limit: Annotated[int, Field(ge=1)] = Field(
        100, description="Admin requests a minute and key; more answer 429."
    )
    http_request_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        65,
        description="Seconds a request's headers may take to arrive, and its body; idle "
        "connections are closed after as long. Longer than the 60 s load balancers keep theirs.",
    )
    webhook_open: bool | None = Field(
        None,
        description="Whether webhooks are accepted from every sender while there is no secret. "
        "Unset, they are until there is a first secret, and never again. A deployment sets "
        "`false`.",
    )
    webhook_max_bytes: Annotated[int, Field(ge=1024)] = Field(
        4 * MIB,
        description="Largest webhook body in bytes; larger ones answer 413. `max_payload` of NATS "
        "has to be 4 KiB larger; where it is not, it is the limit.",
    )
    webhook_ack_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = Field(
        50,
        description="Milliseconds JetStream may take to acknowledge before a webhook is spooled; "
        "what the gateway itself is late by is not counted.",
    )
    operator_webhook_url: Url | None = Field(
        None,
        description="URL that gets a notice when something needs an operator, and when it is over "
        "(docs/operator-webhook.md). It may be inside the network.",
    )
    operator_webhook_secret: SigningSecret | None = Field(
        None,
        description="Key those requests are signed with (Standard Webhooks): base64 of at least "
        "24 bytes, with or without `whsec_`.",
    )
    operator_webhook_failing_seconds: Annotated[float, Field(ge=0)] = Field(
        600, description="Seconds a destination fails before `OPERATOR_WEBHOOK_URL` is told."
    )
    spool_dir: FilePath = Field(
        Path(".hogsend/spool"),
        description="Directory for webhooks accepted while NATS is down. It should outlive "
        "the gateway.",
    )
    spool_max_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * MIB, description="Bytes of webhooks the spool holds; 0 turns it off."
    )

    @property
    def listening_url(self) -> str:
        """Where it listens, for the log."""
        return f"http://{host_and_port(self.gateway_host, self.gateway_port)}"

    @property
    def signatures_required(self) -> bool:
        """Whether webhooks that are not signed are refused."""
        return self.webhook_signatures == "required"

    @model_validator(mode="after")
    def _must_be_signed(self) -> Self:
        if self.operator_webhook_url is not None and self.operator_webhook_secret is None:
            raise ValueError("OPERATOR_WEBHOOK_URL needs OPERATOR_WEBHOOK_SECRET")
        return self

    @model_validator(mode="after")
    def _must_be_keys_of_one_scope(self) -> Self:
        scopes = {
            "ADMIN_API_KEY": (self.admin_api_key, *self.admin_api_key_previous),
            "ADMIN_READ_API_KEY": (self.admin_read_api_key, *self.admin_read_api_key_previous),
            "INGEST_API_KEY": (self.ingest_api_key, *self.ingest_api_key_previous),
        }
        for (one, keys), (other, others) in combinations(scopes.items(), 2):
            if set(filter(None, keys)) & set(filter(None, others)):
                # A client that was given the lesser key could do what the other may.
                raise ValueError(f"{other} is {one}, too; write a key of its own")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _must_be_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_network(entry)
        return value
