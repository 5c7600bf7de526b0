"""Says at the start when other people's services are in one NATS account with ours."""

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

ANSWER_SECONDS = 2.0

log = structlog.get_logger(__name__)


class _User(msgspec.Struct, frozen=True):
    account: str


class _Answer(msgspec.Struct, frozen=True):
    """What the server says of who asks it."""

    data: _User


async def warn_of_shared_account(link: Connection) -> None:
    """Ask the server for our account, and warn where nothing keeps others out of it.

    An account of another name is the operator's choice, and may be as good as ours.
    """
    try:
        answer = await link.request_raw(USER_INFO, b"", seconds=ANSWER_SECONDS)
        account = msgspec.json.decode(answer.data, type=_Answer).data.account
    except Forbidden:
        # Configurations of ours that do not let ingest ask are of before there were accounts.
        account = GLOBAL
    except (*NOT_JSON, *UNREACHABLE) as error:
        metrics.FAILURES.labels("account", type(error).__name__).inc()
        log.warning("the NATS account is not known", reason=str(error))
        return
    if account == GLOBAL:
        log.warning(
            "all NATS users share one account: who holds subscriber.env can empty streams",
            fix="see 'From one account to several' in docs/deploy.md",
        )
