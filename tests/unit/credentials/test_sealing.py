"""Sealing: the contract's test vector, and texts that must never unseal."""

from __future__ import annotations

import base64
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.errors import CannotUnseal
from services.credentials.sealing import Sealer

VECTOR_PLAINTEXT = (
    b'{"accessToken":"pha_vector","tokenEndpoint":"https://eu.posthog.com/oauth/token/"}'
)
VECTOR_SEALED = (
    "AAECAwQFBgcICQoLPLur9vS-VeeR0TS1c6tZQQ27SkZKJCUHQYGWZQ1te3XwB7GhqANHL7AaWmkUEIFF3i8hJUeuCGlH9DL1"
    "IPTTZHBM9E9O-02Aqk1ac94LzYH9sQRFaGHVdcHEhRwn8JAHM3g"
)


def test_the_vector_of_appendix_a_unseals() -> None:
    assert Sealer("test-secret").unseal(VECTOR_SEALED) == VECTOR_PLAINTEXT


def test_sealing_returns_the_vector_of_appendix_a() -> None:
    with mock.patch("services.credentials.sealing.os.urandom", return_value=bytes(range(12))):
        assert Sealer("test-secret").seal(VECTOR_PLAINTEXT) == VECTOR_SEALED


@given(st.text(min_size=1), st.binary())
def test_a_sealed_text_unseals_to_its_plaintext(secret: str, plaintext: bytes) -> None:
    try:
        secret.encode()
    except UnicodeEncodeError:
        return
    sealed = Sealer(secret).seal(plaintext)
    if plaintext:
        assert Sealer(secret).unseal(sealed) == plaintext
    assert set(sealed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_sealing_one_text_twice_returns_different_results() -> None:
    sealer = Sealer("s")
    assert sealer.seal(b"x") != sealer.seal(b"x")


def test_a_sealed_text_does_not_unseal_with_another_secret() -> None:
    with pytest.raises(CannotUnseal):
        Sealer("other").unseal(VECTOR_SEALED)


@given(st.integers(min_value=0, max_value=8 * 110 - 1))
def test_a_flipped_bit_raises_cannot_unseal(bit: int) -> None:
    blob = bytearray(base64.urlsafe_b64decode(VECTOR_SEALED + "=="))
    blob[bit // 8 % len(blob)] ^= 1 << bit % 8
    with pytest.raises(CannotUnseal):
        Sealer("test-secret").unseal(base64.urlsafe_b64encode(bytes(blob)).rstrip(b"=").decode())


@given(st.text(max_size=60))
def test_any_other_text_raises_cannot_unseal(text: str) -> None:
    with pytest.raises(CannotUnseal):
        Sealer("test-secret").unseal(text)


def test_28_bytes_or_fewer_are_no_sealed_text() -> None:
    sealed = base64.urlsafe_b64encode(bytes(28)).rstrip(b"=").decode()
    with pytest.raises(CannotUnseal, match="too short"):
        Sealer("test-secret").unseal(sealed)
