"""Every setting, once: its name in the environment, default and meaning.

`.env.example` and the table in the README are made from these classes (`make docs`), and a test
fails when they differ. An empty value counts as unset. Secrets are `SecretStr`: they never print.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hogsend.client.local_time import find_timezone
from hogsend.contract.streams import MIB, STREAM_MAX_BYTES, Limits
from hogsend.posthog.hosts import US_INGESTION_HOST, private_host
from hogsend.service.ssrf import AllowedHost

Port = Annotated[int, Field(ge=1, le=65535)]
PreviousKeys = Annotated[tuple[SecretStr, ...], NoDecode]

_url = TypeAdapter(HttpUrl)


SECRETS_DIRECTORY = Path("/run/secrets")
"""Where Docker and Kubernetes mount secrets. A file there counts when the variable is unset."""


class Settings(BaseSettings):
    """Base: read from the environment under the field's upper-cased name, else from a file.

    The file has the field's name and lies in `/run/secrets`.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        secrets_dir=SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None,
    )


class PostHogSettings(Settings):
    """PostHog: all optional, each capability needs only its own."""

    posthog_api_key: SecretStr | None = Field(
        None, description="Project API key (`phc_…`): event capture and person writes."
    )
    posthog_host: str | None = Field(
        None,
        description=f"Ingestion host; `{US_INGESTION_HOST}` when unset. "
        "EU: `https://eu.i.posthog.com`; self-hosted: the instance's URL.",
    )
    posthog_private_host: str | None = Field(
        None,
        description="App host for reads, OAuth and provisioning; derived from `POSTHOG_HOST` "
        "when unset.",
    )
    posthog_project_id: str | None = Field(
        None, description="Project id; discovered from PostHog when unset."
    )
    posthog_personal_api_key: SecretStr | None = Field(
        None, description="Fallback read credential, used when no OAuth credential is stored."
    )
    posthog_webhook_secret: SecretStr | None = Field(
        None,
        description="Shared secret PostHog's webhooks must carry; wins over a minted one. "
        "With neither, the source is open.",
    )

    @field_validator("posthog_host", "posthog_private_host")
    @classmethod
    def _must_be_url(cls, value: str | None) -> str | None:
        return value if value is None else _checked_url(value)

    @property
    def host_explicit(self) -> bool:
        """Whether the operator named a PostHog host."""
        return bool(self.posthog_private_host or self.posthog_host)

    @property
    def private_host(self) -> str | None:
        """App host without trailing slashes; None without any PostHog setting (contract 1.1)."""
        if self.posthog_private_host:
            return self.posthog_private_host.rstrip("/")
        if self.posthog_host:
            return private_host(self.posthog_host)
        return private_host(US_INGESTION_HOST) if self.posthog_api_key else None


class OutboundSettings(Settings):
    """What the services that call PostHog may reach."""

    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts (`posthog.internal`, `10.0.0.5:8000`) and networks (`10.0.0.0/8`) that "
        "are not public and may be called nonetheless, separated by commas. What `POSTHOG_HOST`, "
        "`POSTHOG_PRIVATE_HOST` and `API_PUBLIC_URL` name may be called anyway.",
    )

    @field_validator("outbound_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_list(value)

    @field_validator("outbound_allow")
    @classmethod
    def _must_be_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            AllowedHost.parse(entry)
        return value


class PublicUrlSettings(Settings):
    """Where PostHog reaches the gateway; the provisioner tells PostHog so."""

    api_public_url: str = Field(
        "http://localhost:3002", description="URL PostHog reaches this gateway at."
    )

    @field_validator("api_public_url")
    @classmethod
    def _must_be_url(cls, value: str) -> str:
        return _checked_url(value)


class ProvisionerSettings(Settings):
    """Provisioner: what it may do on its own."""

    posthog_mint_webhook_secret: bool = Field(
        default=True,
        description="Whether provisioning makes up a webhook secret when none is set; "
        "`false` answers `webhook_secret_missing` instead.",
    )


class GatewaySettings(Settings):
    """Gateway: HTTP, admin keys, webhook intake and its spool."""

    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: Port = Field(3002, description="Port the gateway listens on.")
    admin_api_key: SecretStr | None = Field(
        None,
        description="Bearer for `/v1/admin/*`. Unset, every admin request is 401; "
        "`make up` generates one.",
    )
    admin_read_api_key: SecretStr | None = Field(
        None,
        description="Bearer that may only list events; every other admin route answers it 403.",
    )
    ingest_api_key: SecretStr | None = Field(
        None,
        description="Bearer that may only report events to `POST /v1/events`; `ADMIN_API_KEY` may "
        "as well.",
    )
    admin_api_key_previous: PreviousKeys = Field(
        (), description="Earlier `ADMIN_API_KEY`s that still count, separated by commas."
    )
    admin_read_api_key_previous: PreviousKeys = Field(
        (), description="Earlier `ADMIN_READ_API_KEY`s that still count, separated by commas."
    )
    ingest_api_key_previous: PreviousKeys = Field(
        (), description="Earlier `INGEST_API_KEY`s that still count, separated by commas."
    )
    admin_failed_key_limit: Annotated[int, Field(ge=1)] = Field(
        30,
        description="Wrong keys a minute from one address; after that it is answered 429 whatever "
        "its key, until the minute is over.",
    )
    admin_rate_limit: Annotated[int, Field(ge=1)] = Field(
        100, description="Admin requests a minute and key; more answer 429."
    )
    http_patience_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        65,
        description="Seconds a request's headers may take to arrive, and its body; idle "
        "connections are closed after as long. Longer than the 60 s load balancers keep theirs.",
    )
    webhook_max_bytes: Annotated[int, Field(ge=1024)] = Field(
        MIB, description="Largest webhook body in bytes; larger ones answer 413."
    )
    webhook_ack_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = Field(
        50, description="Milliseconds JetStream gets to acknowledge before a webhook is spooled."
    )
    spool_dir: Path = Field(
        Path(".hogsend/spool"),
        description="Directory for webhooks accepted while NATS is away. One per gateway replica.",
    )
    spool_max_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * MIB, description="Bytes of webhooks the spool holds; 0 turns it off."
    )

    @field_validator(
        "admin_api_key_previous",
        "admin_read_api_key_previous",
        "ingest_api_key_previous",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_list(value)


class SealingSettings(Settings):
    """Sealing of stored credentials."""

    better_auth_secret: SecretStr = Field(
        description="Seals stored credentials; rotating it makes them unreadable, unless the old "
        "one is in `BETTER_AUTH_SECRET_PREVIOUS`. Required by the credentials service; `make up` "
        "generates one."
    )
    better_auth_secret_previous: PreviousKeys = Field(
        (),
        description="Earlier sealing secrets, separated by commas: still unseal, and what they "
        "sealed is sealed anew.",
    )

    @field_validator("better_auth_secret_previous", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_list(value)


class DatabaseSettings(Settings):
    """PostgreSQL, for every service but the gateway."""

    database_url: SecretStr = Field(
        description="PostgreSQL address. Unset, `make up` starts its own server. For TLS add "
        "`?sslmode=verify-full&sslrootcert=/path/to/ca.pem`."
    )
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = Field(
        8, description="Connections each service process keeps open at most."
    )


class BusSettings(Settings):
    """NATS, for every service."""

    nats_url: str = Field(
        "nats://127.0.0.1:4222",
        description="NATS address, several separated by commas. Set, `make up` uses it instead of "
        "starting its own server.",
    )
    nats_user: str | None = Field(
        None, description="NATS user; the service's own name when a password is set."
    )
    nats_password: SecretStr | None = Field(
        None, description="NATS password, when the address does not carry one."
    )
    nats_tls_ca: Path | None = Field(
        None,
        description="PEM file of the authority that signed NATS' certificate. Set, or with "
        "`tls://` in `NATS_URL`, nothing is sent without TLS.",
    )
    nats_tls_cert: Path | None = Field(
        None, description="PEM file with the certificate to show NATS, if it asks for one."
    )
    nats_tls_key: Path | None = Field(
        None, description="PEM file with that certificate's key, unless it is in the same file."
    )
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        1, description="Copies JetStream keeps of every stream."
    )
    nats_stream_max_bytes: Annotated[int, Field(ge=64 * MIB)] = Field(
        STREAM_MAX_BYTES,
        description="How large each of the streams WEBHOOKS, EVENTS, ENGAGEMENT and PERSONS may "
        "become on disk, in bytes; dead letters take a quarter of it, the audit trail a sixteenth.",
    )

    @property
    def stream_limits(self) -> Limits:
        """What they say about streams."""
        return Limits(self.nats_replicas, self.nats_stream_max_bytes)


class IngestSettings(Settings):
    """Ingest: how much it takes at a time."""

    ingest_batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        500, description="Webhooks stored in one transaction at most."
    )


class AnalyticsSettings(Settings):
    """Analytics: person reads, and what flows back into PostHog."""

    default_timezone: str = Field(
        "UTC", description="IANA time zone of people nothing is known about."
    )
    enable_posthog_destination: bool = Field(
        default=False,
        description="Whether a PostHog destination for the email funnel and contact changes is "
        "made by itself, given a project key.",
    )
    analytics_event_mirror: bool = Field(
        default=False,
        description="Whether events reported to Hogsend are captured in PostHog too; those from "
        "PostHog never are.",
    )
    analytics_event_mirror_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of the only events to mirror, separated by commas; all when empty."
    )
    analytics_event_mirror_deny: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of events not to mirror, separated by commas."
    )
    outbound_webhook_max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="Attempts to deliver an event before it is set aside as a dead letter."
    )
    outbound_webhook_timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = Field(
        15_000, description="Milliseconds one delivery may take."
    )
    outbound_webhook_base_delay_ms: Annotated[int, Field(ge=1)] = Field(
        5_000, description="Milliseconds that double with every attempt to make its delay."
    )
    outbound_webhook_max_delay_ms: Annotated[int, Field(ge=1)] = Field(
        21_600_000, description="Longest delay between two attempts, in milliseconds."
    )

    @field_validator("default_timezone")
    @classmethod
    def _must_be_timezone(cls, value: str) -> str:
        zone = find_timezone(value)
        if zone is None:
            raise ValueError("there is no such IANA time zone")
        return zone

    @field_validator("analytics_event_mirror_allow", "analytics_event_mirror_deny", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return _split_list(value)


class TelemetrySettings(Settings):
    """Logs and metrics of every service."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0,
        description="Port where a service without HTTP serves `/metrics`; 0 is off. "
        "The gateway serves them itself.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that port is on.")
    alive_file: Path | None = Field(
        None,
        description="File touched every five seconds while a service runs, for health checks of "
        "containers; the image sets it.",
    )


class StackSettings(Settings):
    """The stack `make up` starts."""

    hogsend_home: Path = Field(
        Path(".hogsend"), description="Directory for all data, generated secrets and logs."
    )
    nats_port: Port = Field(4222, description="Port of the NATS server `make up` starts.")


ALL: tuple[type[Settings], ...] = (
    PostHogSettings,
    OutboundSettings,
    PublicUrlSettings,
    ProvisionerSettings,
    GatewaySettings,
    SealingSettings,
    DatabaseSettings,
    BusSettings,
    IngestSettings,
    AnalyticsSettings,
    TelemetrySettings,
    StackSettings,
)


def describe_problems(error: ValidationError) -> list[str]:
    """Say what is wrong with the environment: one line a setting, never a value."""
    return [
        f"{str(problem['loc'][0]).upper() if problem['loc'] else 'settings'}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _split_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(entry.strip() for entry in value.split(",") if entry.strip())


def _checked_url(value: str) -> str:
    # Only a check: the text is used, and shown, exactly as the operator wrote it.
    _url.validate_python(value)
    return value
