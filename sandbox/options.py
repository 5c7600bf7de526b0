"""The options of a sandbox. The command `hogsend sandbox` has a flag for each."""

from __future__ import annotations

import msgspec

from hogsend.urls import host_and_port, reached_at

ORGANIZATION_ID = "0190a000-0000-7000-8000-00000000c0de"
USER_ID = "0190a000-0000-7000-8000-0000000000aa"
MAX_PORT = 65535


class Resolve(msgspec.Struct, frozen=True):
    """Send requests for `host` to `address:port`, like curl's `--connect-to`."""

    host: str
    address: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Resolve:
        """Parse `HOST=ADDR:PORT`.

        Raises:
            ValueError: the text has another form.
        """
        host, equals, target = text.partition("=")
        address, colon, port = target.rpartition(":")
        is_port = port.isdecimal() and 0 < int(port) <= MAX_PORT
        if not (host and equals and address and colon and is_port):
            raise ValueError(f"{text!r} is not of the form HOST=ADDR:PORT")
        return cls(host.lower(), address.strip("[]"), int(port))

    def __str__(self) -> str:
        """Format it for `parse`."""
        return f"{self.host}={host_and_port(self.address, self.port)}"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a sandbox behaves. Times are in seconds."""

    host: str = "127.0.0.1"
    port: int = 8010
    public_url: str | None = None
    """URL in metadata and links; by default the address that the sandbox listens on."""

    project_id: int = 4242
    project_key: str = "phc_sandbox_project_key"
    personal_key: str = "phx_sandbox_personal_key"
    flags_key: str = "phs_sandbox_feature_flag_secret"
    """Secure key for feature flags, which may read flag definitions and remote configuration."""

    personal_key_scopes: tuple[str, ...] = ("*",)

    auto_consent: bool = False
    """Redirect authorization requests at once, without a consent page."""

    allow_http_clients: bool = False
    """Accept client documents over http on this machine, which PostHog refuses."""

    offline_documents: bool = True
    """Use the library's copy of Hogsend's client document instead of fetching it."""

    token_seconds: int = 3600
    rotate_refresh_tokens: bool = True
    """Rotate refresh tokens, as older versions of PostHog do. Current ones do not for clients with
    a metadata document."""

    grace_seconds: int = 120
    """Seconds a rotated refresh token stays valid (`REFRESH_TOKEN_GRACE_PERIOD_SECONDS`)."""

    data_pipelines: bool = True
    """Whether the organization has the data-pipelines add-on."""

    webhook_signing: bool = True
    """Whether webhooks can be signed, as in PostHog since PostHog/posthog#90307."""

    resolve: tuple[Resolve, ...] = ()
    deliver_anywhere: bool = False
    """Deliver to any host; otherwise only to this machine and to hosts in `resolve`."""

    backoff_seconds: float = 1.0
    """Base delay of the delivery back-off (`CDP_FETCH_BACKOFF_BASE_MS`)."""

    @property
    def url(self) -> str:
        """URL without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"http://{reached_at(self.host, self.port)}"
