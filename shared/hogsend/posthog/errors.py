"""What PostHog's APIs raise. Every message is safe to show: it never holds a key or a bearer."""

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
            detail: PostHog's own `detail`, else its raw text, else why there was no answer.
            status: HTTP status; None when there was no answer.
            attr: field of the request that PostHog named as the cause.
            code: PostHog's own word for the reason.
            retry_after: seconds PostHog asks to wait before the next request.
        """
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.attr = attr
        self.code = code
        self.retry_after = retry_after


class PostHogUnreachable(PostHogError):
    """There was no answer: nothing listens there, or the connection broke."""


class PostHogTimeout(PostHogUnreachable):
    """PostHog did not answer in time."""


class PostHogAnswerTooLarge(PostHogError):
    """PostHog's answer has more bytes than are read."""
