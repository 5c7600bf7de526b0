"""Answers to a flag evaluation: one odd member costs that member alone."""

from __future__ import annotations

import pytest

from hogsend.contract.json_text import MAX_DEPTH
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.flags import Metadata, read_evaluation

TOO_DEEP = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
GOOD = b'"good":{"enabled":true,"variant":"b","metadata":{"id":7,"payload":"{}"}}'


@pytest.mark.parametrize(
    "odd",
    [
        b'{"enabled":null}',
        b'{"enabled":"true"}',
        b'{"enabled":1}',
        b'{"enabled":true,"variant":5}',
        b'{"enabled":true,"variant":"\xff"}',
        b'{"enabled":true,"failed":"no"}',
        b"{}",
        b"null",
        b"true",
        b'"b"',
        b"[]",
        b"7",
    ],
)
def test_an_odd_flag_costs_that_flag_alone(odd: bytes) -> None:
    found = read_evaluation(b'{"flags":{"odd":' + odd + b"," + GOOD + b'},"requestId":"r_1"}')
    assert {name: flag.value for name, flag in found.flags.items()} == {"good": "b"}
    assert found.unreadable == ["odd"]
    assert found.request_id == "r_1"


@pytest.mark.parametrize(
    "member",
    [
        b'"metadata":null',
        b'"metadata":[]',
        b'"metadata":{"id":"seven"}',
        b'"metadata":{"payload":1e999}',
        b'"reason":"matched"',
        b'"reason":{"description":5}',
        b'"failed":null',
        b'"new":{"member":[1]}',
    ],
)
def test_odd_details_leave_the_value(member: bytes) -> None:
    found = read_evaluation(b'{"flags":{"odd":{"enabled":true,' + member + b"}," + GOOD + b"}}")
    assert {name: flag.value for name, flag in found.flags.items()} == {"odd": True, "good": "b"}
    assert found.flags["good"].metadata == Metadata(id=7, payload="{}")


@pytest.mark.parametrize("odd", [b'"id":"7"', b'"version":{}', b'"id":1e999', b'"id":7.5'])
def test_an_odd_id_does_not_cost_the_payload(odd: bytes) -> None:
    flag = b'{"enabled":true,"metadata":{' + odd + b',"payload":"{}"}}'
    found = read_evaluation(b'{"flags":{"new":' + flag + b"}}")
    assert found.flags["new"].metadata == Metadata(payload="{}")


@pytest.mark.parametrize(
    "member",
    [
        b'"requestId":5',
        b'"quotaLimited":null',
        b'"quotaLimited":["recordings"]',
        b'"errorsWhileComputingFlags":null',
        b'"featureFlags":[]',
    ],
)
def test_odd_members_beside_the_flags_cost_none(member: bytes) -> None:
    found = read_evaluation(b"{" + member + b',"flags":{' + GOOD + b"}}")
    assert list(found.flags) == ["good"]
    assert not found.limited


def test_half_a_character_costs_no_flag() -> None:
    odd = b'"odd":{"enabled":true,"variant":"cut \\ud83d"}'
    found = read_evaluation(b'{"flags":{' + odd + b"," + GOOD + b"}}")
    values = {name: flag.value for name, flag in found.flags.items()}
    assert values == {"odd": "cut \ufffd", "good": "b"}


def test_a_payload_nested_too_deeply_is_left_out() -> None:
    flag = b'{"enabled":true,"metadata":{"id":7,"payload":%b}}' % TOO_DEEP
    found = read_evaluation(b'{"flags":{"deep":' + flag + b"}}")
    assert found.flags["deep"].metadata == Metadata(id=7)
    older = b'{"featureFlags":{"deep":true},"featureFlagPayloads":{"deep":%b}}' % TOO_DEEP
    assert read_evaluation(older).flags["deep"].metadata == Metadata()


def test_an_older_answer_is_read() -> None:
    found = read_evaluation(
        b'{"featureFlags":{"a":true,"b":"blue","c":false,"odd":null},'
        b'"featureFlagPayloads":{"b":"{\\"size\\":1}"},"errorsWhileComputingFlags":false}'
    )
    values = {name: flag.value for name, flag in found.flags.items()}
    assert values == {"a": True, "b": "blue", "c": False}
    assert found.flags["b"].metadata.payload == '{"size":1}'
    assert found.unreadable == ["odd"]


@pytest.mark.parametrize("flags", [b"", b',"flags":null', b',"flags":{}'])
def test_a_project_over_its_quota_has_no_flags(flags: bytes) -> None:
    found = read_evaluation(b'{"quotaLimited":["feature_flags"]' + flags + b"}")
    assert found.limited
    assert found.flags == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"flags":[]}', b'{"flags":7}'])
def test_an_answer_without_flags_is_an_error(content: bytes) -> None:
    with pytest.raises(PostHogError, match="did not answer with flags"):
        read_evaluation(content)
