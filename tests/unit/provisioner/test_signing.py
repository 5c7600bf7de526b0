"""Signed deliveries: enabled when PostHog can sign, updated, and rotated without loss.

PostHog is the sandbox's app, reached without a socket: it hides secrets, drops inputs that it does
not know, and keeps a function's program.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast

import msgspec
import pytest

from hogsend.contract.credentials import DerivedPayload, TokenReply
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.provisioning import Provisioned, ProvisionLoop
from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.signing import KEY_ID_HEADER, key_id, key_of, mint
from hogsend.service import metrics
from sandbox.app import app_of
from sandbox.errors import invalid
from sandbox.functions.model import HogFunction, InputSchema
from sandbox.instance import Instance
from sandbox.options import Options
from services.provisioner.destination import legacy
from services.provisioner.destination.minted_secret import PREVIOUS_SECONDS
from services.provisioner.destination.signing_secret import SigningSecrets
from tests.unit.provisioner.fakes import FakeCredentials, InMemoryProvisioner, compose

OPERATORS = "whsec_" + "b" * 32
OTHERS = "c" * 32
OLDER_PROGRAM = """
let request := {
  'method': inputs.method,
  'headers': inputs.headers,
  'body': inputs.body
}
// from before
let answer := fetch(inputs.url, request)
if (answer.status >= 400) { throw Error(f'Webhook answered {answer.status}: {answer.body}') }
"""


@cache
def stand_in() -> tuple[Instance, Any]:
    """Return the sandbox, shared by all tests because creating it takes long."""
    instance = Instance(Options())
    return instance, app_of(instance)


class Loop:
    """A provisioner and its PostHog."""

    def __init__(self, posthog: Instance, app: Any, **options: Any) -> None:
        self.posthog, self.app = posthog, app
        self.credentials = FakeCredentials()
        key = self.posthog.options.personal_key
        self.credentials.token = TokenReply(source="personal_key", version=1, token=key)
        self.provisioner = self.another(**options)

    def another(self, **options: Any) -> InMemoryProvisioner:
        store = self.provisioner.store if hasattr(self, "provisioner") else None
        self.provisioner = compose(self.app, self.credentials, store, **options)
        return self.provisioner

    async def run(self, **options: Any) -> Provisioned:
        reply = await self.provisioner.provisioning.run(ProvisionLoop(**options))
        assert reply.provisioned is not None, reply.refusal
        return reply.provisioned

    async def refused(self, **options: Any) -> tuple[str, str]:
        reply = await self.provisioner.provisioning.run(ProvisionLoop(**options))
        assert reply.refusal is not None, reply.provisioned
        assert reply.refusal.reason == "precondition"
        assert reply.refusal.remediation
        return reply.refusal.code, reply.refusal.detail or ""

    @property
    def function(self) -> HogFunction:
        (function,) = self.posthog.functions.all()
        return function

    @property
    def key(self) -> Any:
        """The key with which PostHog signs."""
        return self.function.inputs["signing_secret"].value

    @property
    def headers(self) -> dict[str, Any]:
        return dict(cast("Any", self.function.inputs["headers"].value))

    @property
    def key_id_header(self) -> str:
        return str(self.headers[KEY_ID_HEADER])

    @property
    def minted(self) -> str | None:
        payload = self.credentials.derived_reply.payload
        return payload.signing_secret if payload else None


async def start(*, signing: bool = True, **options: Any) -> Loop:
    """Start with an empty PostHog, which can sign unless `signing` is false."""
    posthog, app = stand_in()
    await posthog.reset()
    posthog.functions.signing = signing
    return Loop(posthog, app, **options)


async def test_a_created_destination_signs_with_a_generated_key_and_a_repeat_changes_nothing() -> (
    None
):
    loop = await start()
    created = await loop.run()
    assert (created.action, created.signed, created.unsigned_because) == ("created", True, None)
    assert loop.key == loop.minted
    assert len(key_of(loop.key)) == 32
    assert loop.key_id_header == key_id(loop.key)
    assert loop.function.enabled
    stored = len(loop.credentials.stored)
    again = await loop.run()
    assert (again.action, again.signed) == ("unchanged", True)
    assert len(loop.credentials.stored) == stored


async def test_no_key_is_generated_and_the_reason_is_returned_when_posthog_cannot_sign() -> None:
    loop = await start(signing=False)
    for action in ("created", "unchanged"):
        result = await loop.run()
        assert (result.action, result.signed) == (action, False)
        assert result.unsigned_because == "unsupported"
    assert loop.minted is None
    assert KEY_ID_HEADER not in loop.headers


async def test_a_destination_signs_after_posthog_was_upgraded() -> None:
    loop = await start(signing=False)
    await loop.run()
    loop.posthog.functions.signing = True
    result = await loop.run()
    assert (result.action, result.signed) == ("updated", True)
    assert loop.key == loop.minted
    assert "standard_webhooks" in loop.function.hog
    assert (await loop.run()).action == "unchanged"


@pytest.mark.parametrize("program", [OLDER_PROGRAM, legacy.HOG])
async def test_earlier_programs_of_the_template_and_of_hogsend_are_replaced(program: str) -> None:
    loop = await start(signing=False)
    await loop.run()
    loop.function.hog = program
    loop.posthog.functions.signing = True
    assert ((await loop.run()).signed, (await loop.run()).action) == (True, "unchanged")


@pytest.mark.parametrize("with_input", [False, True])
async def test_a_program_that_a_user_changed_is_not_replaced(with_input: bool) -> None:
    loop = await start(signing=False)
    await loop.run()
    function = loop.function
    if with_input:
        function.inputs_schema = [*function.inputs_schema, InputSchema("mine", "string")]
    else:
        function.hog += "print('mine')\n"
    before = function.hog
    loop.posthog.functions.signing = True
    result = await loop.run()
    assert (result.action, result.unsigned_because) == ("unchanged", "custom_program")
    assert loop.function.hog == before
    assert loop.minted is None


async def test_a_destination_of_the_old_cli_is_updated_to_sign() -> None:
    loop = await start()
    await loop.run()
    function = loop.function
    function.inputs_schema = [InputSchema("url", "string"), InputSchema("payload", "json")]
    function.hog = "old"
    assert (await loop.run()).action == "updated"
    assert loop.key == loop.minted
    assert (await loop.run()).action == "unchanged"


async def test_the_operators_key_takes_precedence_and_expires_the_generated_one() -> None:
    loop = await start()
    await loop.run()
    minted = loop.minted
    loop.another(signing_secret=OPERATORS)
    assert (await loop.run()).action == "updated"
    assert (loop.key, loop.key_id_header) == (OPERATORS, key_id(OPERATORS))
    payload = loop.credentials.derived_reply.payload
    assert payload is not None
    assert (payload.signing_secret, payload.signing_secret_previous) == (None, minted)
    ends = payload.signing_previous_until
    assert ends is not None
    assert ends - datetime.now(UTC) < timedelta(seconds=PREVIOUS_SECONDS)
    stored = len(loop.credentials.stored)
    assert (await loop.run()).action == "unchanged"
    assert len(loop.credentials.stored) == stored


async def test_only_the_operators_key_signs_when_generating_is_off() -> None:
    loop = await start(minting=False)
    result = await loop.run()
    assert (result.signed, result.unsigned_because) == (False, "no_key")
    loop.another(minting=False, signing_secret=OPERATORS)
    assert ((await loop.run()).signed, loop.key) == (True, OPERATORS)


@pytest.mark.parametrize("change", ["missing", "another", "twice"])
async def test_a_key_that_was_changed_in_posthog_is_restored(change: str) -> None:
    loop = await start()
    await loop.run()
    inputs = dict(loop.function.inputs)
    if change == "missing":
        inputs["signing_secret"] = type(inputs["signing_secret"])()
    else:
        name = KEY_ID_HEADER if change == "another" else KEY_ID_HEADER.upper()
        headers = {**loop.headers, name: key_id(OTHERS)}
        inputs["headers"] = type(inputs["headers"])(headers)
    loop.function.inputs = inputs
    assert (await loop.run()).action == "updated"
    assert (loop.key, loop.key_id_header) == (loop.minted, key_id(loop.minted or ""))
    assert KEY_ID_HEADER.upper() not in loop.headers


async def test_a_key_that_cannot_be_read_is_not_replaced() -> None:
    loop = await start()
    await loop.run()
    key = loop.key
    loop.credentials.store_unreadable()
    result = await loop.run()
    assert (result.action, result.unsigned_because, loop.key) == ("unchanged", "no_key", key)


async def test_a_key_that_cannot_be_stored_is_not_sent_to_posthog() -> None:
    loop = await start()
    loop.credentials.failures["store_derived"] = InvalidRequest("refused")
    result = await loop.run()
    assert (result.action, result.signed) == ("created", False)
    assert not loop.function.inputs["signing_secret"].value


async def test_a_key_that_credentials_of_0_1_0_do_not_store_is_not_sent_to_posthog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = await start()
    store = loop.credentials.store_derived

    async def store_as_0_1_0(payload: DerivedPayload, generation: int | None = None) -> None:
        await store(msgspec.structs.replace(payload, signing_secret=None), generation)

    monkeypatch.setattr(loop.credentials, "store_derived", store_as_0_1_0)
    not_kept = metrics.FAILURES.labels("signing_secret", "not_kept")._value
    before = not_kept.get()
    result = await loop.run()
    assert (result.action, result.unsigned_because) == ("created", "no_key")
    assert not loop.function.inputs["signing_secret"].value
    assert not_kept.get() == before + 1
    monkeypatch.undo()
    assert (await loop.run()).signed
    assert loop.key == loop.minted


async def test_a_rotation_keeps_the_previous_key_and_expires_it_after_posthog_has_the_new_one() -> (
    None
):
    loop = await start()
    await loop.run()
    first = loop.key
    payloads: list[Any] = []
    change = loop.posthog.functions.update

    def record_payload(id: str, fields: Any) -> Any:
        payloads.append(loop.credentials.derived_reply.payload)
        return change(id, fields)

    loop.posthog.functions.update = record_payload  # type: ignore[method-assign]
    result = await loop.run(rotate_signing_key=True)
    assert (result.action, result.signed) == ("updated", True)
    assert loop.key == loop.minted != first
    (during,) = payloads
    # Gateways have both keys before PostHog signs with the new one.
    assert (during.signing_secret, during.signing_secret_previous) == (loop.key, first)
    assert during.signing_previous_until is None
    after = loop.credentials.derived_reply.payload
    assert after is not None
    assert after.signing_secret_previous == first
    assert after.signing_previous_until is not None


async def test_a_rotation_that_posthog_refused_is_finished_before_the_next() -> None:
    loop = await start()
    await loop.run()
    # An even earlier key was replaced, and has an expiry.
    await loop.run(rotate_signing_key=True)
    first = loop.key
    change, refusals = loop.posthog.functions.update, [RuntimeError("PostHog failed")]

    def fail_once(id: str, fields: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return change(id, fields)

    loop.posthog.functions.update = fail_once  # type: ignore[method-assign]
    reply = await loop.provisioner.provisioning.run(ProvisionLoop(rotate_signing_key=True))
    assert reply.refusal is not None
    second, payload = loop.minted, loop.credentials.derived_reply.payload
    assert payload is not None
    assert (loop.key, payload.signing_secret_previous) == (first, first)
    assert payload.signing_previous_until is None
    await loop.run(rotate_signing_key=True)
    payload = loop.credentials.derived_reply.payload
    assert payload is not None
    # PostHog got the second key when this run started, so that key is the previous one now.
    assert payload.signing_secret_previous == second
    assert loop.key == payload.signing_secret


async def test_a_rotation_whose_key_cannot_be_stored_fails() -> None:
    loop = await start()
    await loop.run()
    key = loop.key
    loop.credentials.failures["store_derived"] = InvalidRequest("no")
    with pytest.raises(Unavailable, match="could not be stored"):
        await loop.run(rotate_signing_key=True)
    assert (loop.key, loop.minted) == (key, key)


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "minted"])
async def test_a_key_that_posthog_repeats_in_an_error_is_not_shown(
    own: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = await start(signing_secret=OPERATORS if own else None)
    sent: list[str] = []

    def refuse(_id: str, fields: Any) -> Any:
        sent.append(fields["inputs"]["signing_secret"]["value"])
        raise invalid(f"no: {sent[-1]}")

    monkeypatch.setattr(loop.posthog.functions, "update", refuse)
    reply = await loop.provisioner.provisioning.run(ProvisionLoop())
    assert reply.refusal is not None
    assert sent == [OPERATORS if own else loop.minted]
    assert "no: " in repr(reply)
    for output in (repr(reply), *capfd.readouterr()):
        assert sent[0] not in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"signing_secret": OPERATORS}, "POSTHOG_SIGNING_SECRET"), ({"signing": False}, "not signed")],
)
async def test_a_rotation_without_a_generated_key_is_refused(
    options: dict[str, Any], reason: str
) -> None:
    loop = await start(**options)
    code, detail = await loop.refused(rotate_signing_key=True)
    assert code == "signing_key_not_rotatable"
    assert reason in detail
    assert OPERATORS not in detail


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"signing": False}, "no signing secret"), ({"minting": False}, "POSTHOG_MINT")],
)
async def test_a_destination_that_cannot_sign_is_disabled_when_signatures_are_required(
    options: dict[str, Any], reason: str
) -> None:
    loop = await start(**options)
    for _ in range(2):
        code, detail = await loop.refused(signatures_required=True)
        assert code == "webhook_signatures_unsupported"
        assert reason in detail
        assert not loop.function.enabled
    # Without required signatures, the same destination is used.
    assert (await loop.run()).action == "updated"
    assert loop.function.enabled


async def test_a_destination_that_must_sign_is_enabled_when_it_signs() -> None:
    loop = await start()
    result = await loop.run(signatures_required=True)
    assert (result.action, result.signed) == ("created", True)
    assert loop.function.enabled
    assert loop.key == loop.minted


async def test_a_live_destination_that_must_sign_and_cannot_is_not_changed() -> None:
    loop = await start(signing=False)
    await loop.run()
    loop.function.inputs["url"] = type(loop.function.inputs["url"])(
        f"{loop.provisioner.instance.public_url}/x/v1/webhooks/posthog"
    )
    updated = loop.function.updated_at
    await loop.refused(signatures_required=True)
    assert loop.function.updated_at == updated


async def test_a_placeholder_is_not_signed_yet() -> None:
    loop = await start()
    assert (await loop.run(placeholder=True)).signed is None
    assert loop.minted is None
    assert (await loop.run()).signed is True


async def test_a_placeholder_needs_no_signature_although_signatures_are_required() -> None:
    loop = await start(signing=False)
    assert (await loop.run(placeholder=True, signatures_required=True)).action == "created"


async def test_a_previous_key_does_not_expire_before_posthog_signs_with_the_present_one() -> None:
    loop = await start(signing=False)
    loop.credentials.store_payload(
        webhook_secret="s3cret", signing_secret=mint(), signing_secret_previous=mint()
    )
    for options in ({"placeholder": True}, {}):
        await loop.run(**options)
        payload = loop.credentials.derived_reply.payload
        assert payload is not None
        assert payload.signing_previous_until is None


@pytest.mark.parametrize("readable", [True, False])
async def test_without_a_stored_key_nothing_is_rotated_and_no_end_is_stored(
    readable: bool,
) -> None:
    credentials = FakeCredentials()
    if not readable:
        credentials.store_unreadable()
    for configured in (None, OPERATORS):
        secrets = SigningSecrets(credentials, configured, minting=True)
        await secrets.rotate()
        await secrets.settle()
    assert credentials.stored == []


async def test_a_rotation_of_the_webhook_secret_keeps_the_previous_one_for_a_day() -> None:
    loop = await start(secret=None)
    await loop.run()
    first = loop.headers[SECRET_HEADER]
    assert (await loop.run(rotate_webhook_secret=True)).action == "updated"
    payload = loop.credentials.derived_reply.payload
    assert payload is not None
    assert loop.headers[SECRET_HEADER] == payload.webhook_secret != first
    assert payload.webhook_secret_previous == first
    ends = payload.webhook_previous_until
    assert ends is not None
    assert ends - datetime.now(UTC) < timedelta(seconds=PREVIOUS_SECONDS)


async def test_a_webhook_secret_that_cannot_be_rotated_is_refused_before_posthog_is_changed() -> (
    None
):
    loop = await start(secret="env-secret")
    code, _ = await loop.refused(rotate_webhook_secret=True)
    assert code == "webhook_secret_not_rotatable"
    with pytest.raises(InvalidRequest, match="placeholder"):
        await loop.run(placeholder=True, rotate_webhook_secret=True)
    assert list(loop.posthog.functions.all()) == []


async def test_a_placeholder_does_not_end_a_previous_webhook_secret() -> None:
    loop = await start(secret=None)
    loop.credentials.store_payload(webhook_secret="second", webhook_secret_previous="first")
    for placeholder, has_end in ((True, False), (False, True)):
        await loop.run(placeholder=placeholder)
        payload = loop.credentials.derived_reply.payload
        assert payload is not None
        assert (payload.webhook_previous_until is not None) is has_end


async def test_the_diagnosis_reports_whether_deliveries_are_signed() -> None:
    loop = await start(signing=False)
    await loop.run()
    destination = (await loop.provisioner.diagnostics.run()).destination
    assert (destination.state, destination.signed, destination.unsigned_because) == (
        "live",
        False,
        "unsupported",
    )
    loop.posthog.functions.signing = True
    destination = (await loop.provisioner.diagnostics.run()).destination
    assert (destination.state, destination.signed, destination.unsigned_because) == (
        "live",
        False,
        "no_key",
    )
    await loop.run()
    destination = (await loop.provisioner.diagnostics.run()).destination
    assert (destination.state, destination.signed) == ("live", True)
    loop.another(signing_secret=mint())
    destination = (await loop.provisioner.diagnostics.run()).destination
    assert (destination.state, destination.unsigned_because) == ("drifted", "not_provisioned")
