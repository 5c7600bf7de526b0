"""Warns at the start if other people's services share a NATS account with Hogsend's own."""

from __future__ import annotations

import msgspec
import structlog

from hogsend.contract.accounts import GLOBAL
from hogsend.contract.errors import Forbidden
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.permissions import USER_INFO
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

REPLY_SECONDS = 2.0

log = structlog.get_logger(__name__)


class _User(msgspec.Struct, frozen=True):
    account: str


class _Reply(msgspec.Struct, frozen=True):
    """The server's reply about the user of this connection."""

    data: _User


async def warn_of_shared_account(link: Connection) -> None:
    """Request the account of this connection, and log a warning if it is the global account.

    An account with any other name is the operator's choice, and may be as well protected.
    """
    try:
        reply = await link.request_raw(USER_INFO, b"", seconds=REPLY_SECONDS)
        account = msgspec.json.decode(reply.data, type=_Reply).data.account
    except Forbidden:
        # Hogsend's own NATS configurations permit this request since they have accounts.
        account = GLOBAL
    except (*NOT_JSON, *UNREACHABLE) as error:
        metrics.FAILURES.labels("account", type(error).__name__).inc()
        log.warning("the NATS account of this connection is unknown", reason=str(error))
        return
    if account == GLOBAL:
        log.warning(
            "all NATS users share one account: who holds subscriber.env can empty streams",
            fix="see 'From one account to several' in docs/deploy.md",
        )
