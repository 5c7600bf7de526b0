"""Responses of a flag evaluation: a malformed member is ignored, and the others are read."""

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
def test_only_a_malformed_flag_is_unreadable(odd: bytes) -> None:
    evaluation = read_evaluation(b'{"flags":{"odd":' + odd + b"," + GOOD + b'},"requestId":"r_1"}')
    assert {name: flag.value for name, flag in evaluation.flags.items()} == {"good": "b"}
    assert evaluation.unreadable == ["odd"]
    assert evaluation.request_id == "r_1"


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
def test_a_flag_with_malformed_details_keeps_its_value(member: bytes) -> None:
    evaluation = read_evaluation(
        b'{"flags":{"odd":{"enabled":true,' + member + b"}," + GOOD + b"}}"
    )
    assert {name: flag.value for name, flag in evaluation.flags.items()} == {
        "odd": True,
        "good": "b",
    }
    assert evaluation.flags["good"].metadata == Metadata(id=7, payload="{}")


@pytest.mark.parametrize("odd", [b'"id":"7"', b'"version":{}', b'"id":1e999', b'"id":7.5'])
def test_a_flag_with_a_malformed_id_keeps_its_payload(odd: bytes) -> None:
    flag = b'{"enabled":true,"metadata":{' + odd + b',"payload":"{}"}}'
    evaluation = read_evaluation(b'{"flags":{"new":' + flag + b"}}")
    assert evaluation.flags["new"].metadata == Metadata(payload="{}")


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
def test_flags_are_read_although_other_members_are_malformed(member: bytes) -> None:
    evaluation = read_evaluation(b"{" + member + b',"flags":{' + GOOD + b"}}")
    assert list(evaluation.flags) == ["good"]
    assert not evaluation.limited


def test_a_variant_with_a_lone_surrogate_is_read_with_a_replacement_character() -> None:
    odd = b'"odd":{"enabled":true,"variant":"cut \\ud83d"}'
    evaluation = read_evaluation(b'{"flags":{' + odd + b"," + GOOD + b"}}")
    values = {name: flag.value for name, flag in evaluation.flags.items()}
    assert values == {"odd": "cut \ufffd", "good": "b"}


def test_a_payload_that_is_nested_too_deeply_is_omitted() -> None:
    flag = b'{"enabled":true,"metadata":{"id":7,"payload":%b}}' % TOO_DEEP
    evaluation = read_evaluation(b'{"flags":{"deep":' + flag + b"}}")
    assert evaluation.flags["deep"].metadata == Metadata(id=7)
    older = b'{"featureFlags":{"deep":true},"featureFlagPayloads":{"deep":%b}}' % TOO_DEEP
    assert read_evaluation(older).flags["deep"].metadata == Metadata()


def test_a_response_in_the_older_format_is_read() -> None:
    evaluation = read_evaluation(
        b'{"featureFlags":{"a":true,"b":"blue","c":false,"odd":null},'
        b'"featureFlagPayloads":{"b":"{\\"size\\":1}"},"errorsWhileComputingFlags":false}'
    )
    values = {name: flag.value for name, flag in evaluation.flags.items()}
    assert values == {"a": True, "b": "blue", "c": False}
    assert evaluation.flags["b"].metadata.payload == '{"size":1}'
    assert evaluation.unreadable == ["odd"]


@pytest.mark.parametrize("flags", [b"", b',"flags":null', b',"flags":{}'])
def test_a_project_over_its_quota_has_no_flags(flags: bytes) -> None:
    evaluation = read_evaluation(b'{"quotaLimited":["feature_flags"]' + flags + b"}")
    assert evaluation.limited
    assert evaluation.flags == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"flags":[]}', b'{"flags":7}'])
def test_a_response_without_flags_is_an_error(content: bytes) -> None:
    with pytest.raises(PostHogError, match="did not answer with flags"):
        read_evaluation(content)
