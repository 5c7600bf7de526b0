"""Errors of requests to PostHog. Their messages are safe to show: they contain no key or token."""

from __future__ import annotations


class PostHogError(Exception):
    """PostHog refused a request or could not be reached."""

    def __init__(
        self,
        detail: str,
        status: int | None = None,
        attr: str | None = None,
        *,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Describe a failed request.

        Args:
            detail: `detail` of PostHog's response, else its text, else why there was no response.
            status: HTTP status; None without a response.
            attr: field of the request that PostHog's response names as the cause.
            code: PostHog's error code.
            retry_after: seconds to wait before the next request, from PostHog's response.
        """
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.attr = attr
        self.code = code
        self.retry_after = retry_after


class PostHogUnreachable(PostHogError):
    """There was no response: the connection was refused or broke."""


class PostHogTimeout(PostHogUnreachable):
    """PostHog did not respond in time."""


class PostHogResponseTooLarge(PostHogError):
    """PostHog's response is larger than the maximum size."""
