"""The settings of the gateway."""

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
        description="Whether several gateways may listen on one port of one machine. Linux then "
        "distributes connections among them. Otherwise the second gateway does not start.",
    )
    gateway_workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Processes that serve the gateway's port, one for each core it should use. "
        "They share `GATEWAY_MAX_CONNECTIONS`, `SPOOL_MAX_BYTES` and the rate limits of keys. Each "
        "has its own connection to NATS, and 64 MiB for request bodies.",
    )
    gateway_liveness_port: OptionalPort = Field(
        0,
        description="Port that serves only `/livez`, also while all connections of the main port "
        "are in use. It is for a supervisor's liveness probe, not for the public. 0 turns it off.",
    )
    gateway_max_connections: Annotated[int, Field(ge=16)] = Field(
        12288,
        description="Concurrent connections, including idle ones. Further connections wait. The "
        "limit for open files is raised for them as far as the system allows.",
    )
    console: bool | None = Field(
        None,
        description="Whether the gateway serves the console at `/console`, where operators sign in "
        "with a key. If unset, it does so only while it listens on loopback.",
    )
    admin_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer token for `/v1/admin/*`. If unset, every admin request is answered "
        "401. `make up` generates one.",
    )
    admin_read_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer token that may only read: events, contacts, dead letters, "
        "destinations, backfills, capabilities, the diagnosis and metrics. Requests that change "
        "something, export a person, or concern credentials or the audit trail are answered 403.",
    )
    ingest_api_key: HeaderSecret | None = Field(
        None,
        description="Bearer token that may only report events (`POST /v1/events`) and contacts "
        "(`PUT /v1/contacts`), and evaluate flags. `ADMIN_API_KEY` may do so as well.",
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
        description="`required` refuses webhooks that are not signed, and refuses to provision a "
        "PostHog that cannot sign. Wrong signatures are always refused.",
    )
    admin_failed_key_limit: Annotated[int, Field(ge=1)] = Field(
        30,
        description="Requests a minute with wrong keys, from one address or with one key. Further "
        "ones are answered 429 until the minute is over. Valid keys are never refused for it.",
    )
    trusted_proxies: CommaSeparated = Field(
        (),
        description="Addresses and networks (`10.0.0.0/8`) of proxies in front of the gateway, "
        "separated by commas. Their headers `X-Forwarded-For` or `Forwarded` give the client's "
        "address for limits, the audit trail and logs.",
    )
    admin_rate_limit: Annotated[int, Field(ge=1)] = Field(
        100,
        description="Admin requests a minute for all keys of one scope together. Further ones are "
        "answered 429.",
    )
    http_request_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        65,
        description="Seconds in which a request's headers, and then its body, must arrive. Idle "
        "connections are closed after the same time. The default is longer than the 60 s after "
        "which load balancers close idle connections.",
    )
    webhook_open: bool | None = Field(
        None,
        description="Whether webhooks are accepted from every sender while there is no secret. If "
        "unset, they are until there is a first secret, and never again. A deployment sets "
        "`false`.",
    )
    webhook_max_bytes: Annotated[int, Field(ge=1024)] = Field(
        4 * MIB,
        description="Limit for a webhook's body in bytes; larger webhooks are answered 413. "
        "`max_payload` of NATS must be 4 KiB larger, or else it is the limit.",
    )
    webhook_ack_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = Field(
        50,
        description="Milliseconds in which JetStream must acknowledge a webhook; otherwise it is "
        "spooled. Delays of the gateway itself are not counted.",
    )
    operator_webhook_url: Url | None = Field(
        None,
        description="URL that receives a notice when a problem needs an operator, and when it is "
        "resolved (docs/operator-webhook.md). It may be inside the network.",
    )
    operator_webhook_secret: SigningSecret | None = Field(
        None,
        description="Key that signs the requests to `OPERATOR_WEBHOOK_URL` (Standard Webhooks): "
        "base64 of at least 24 bytes, with or without `whsec_`.",
    )
    operator_webhook_failing_seconds: Annotated[float, Field(ge=0)] = Field(
        600,
        description="Seconds for which a destination must fail before `OPERATOR_WEBHOOK_URL` is "
        "notified.",
    )
    spool_dir: FilePath = Field(
        Path(".hogsend/spool"),
        description="Directory for webhooks accepted while NATS is down. It must survive restarts "
        "of the gateway.",
    )
    spool_max_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * MIB, description="Limit for the spool in bytes; 0 turns the spool off."
    )

    @property
    def listening_url(self) -> str:
        """URL of the listening address, for the log."""
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
        for (name, keys), (other_name, other_keys) in combinations(scopes.items(), 2):
            if set(filter(None, keys)) & set(filter(None, other_keys)):
                # A client that was given the key for the lesser scope would have both scopes.
                raise ValueError(f"{other_name} has the value of {name}; give it another value")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _must_be_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_network(entry)
        return value
