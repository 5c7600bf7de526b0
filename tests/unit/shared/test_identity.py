"""Identities: which ids and addresses identify a person, and when two addresses are equal."""

from __future__ import annotations

import pytest

from hogsend.contract.identity import contact_email, contact_user_id, fold_email, is_blank


@pytest.mark.parametrize(
    "text",
    ["mara@example.com", "Mara@Example.COM", "\ufeffmara@example.com", "\u00a0 mara@example.com\n"],
)
def test_an_email_is_normalised_to_lower_case_without_surrounding_white_space(text: str) -> None:
    assert fold_email(text) == contact_email(text) == "mara@example.com"


@pytest.mark.parametrize(
    "text",
    [
        *("Mara <Mara@Example.com>", '"Mara, A. <x>" <mara@example.com> ', "<mara@example.com>"),
        *("mailto:mara@example.com", "Mailto:Mara@example.com", "<mailto:mara@example.com>"),
        *("mailto:mara@example.com?subject=Hi", "<MAILTO:Mara@example.com?cc=a@b>"),
    ],
)
def test_a_contact_email_is_extracted_from_a_mailbox_or_a_mailto_link(text: str) -> None:
    assert contact_email(text) == "mara@example.com"


@pytest.mark.parametrize(
    "text",
    [
        *("mara@example.com\u200b", "\u2060 mara@example.com", "'mara@example.com'"),
        *('"Mara@example.com"', "` \u200dmara@example.com `", "\u200b'mara@example.com'\u200b"),
        "'Mara <mara@example.com>'",
    ],
)
def test_quotes_and_zero_width_characters_are_no_part_of_a_contact_email(text: str) -> None:
    assert contact_email(text) == "mara@example.com"


def test_three_pairs_of_quotes_around_a_contact_email_are_removed() -> None:
    # Megabytes of them would take minutes, if each pair took a copy of the text.
    assert contact_email("'\" `mara@example.com` \"'") == "mara@example.com"
    assert contact_email("''''mara@example.com''''") == "'mara@example.com'"


def test_an_apostrophe_of_an_address_is_part_of_the_contact_email() -> None:
    assert contact_email("o'mara@example.com'") == "o'mara@example.com'"


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        " \ufeff",
        "n/a",
        "none",
        "-",
        "test",
        "@",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "a@b\nc",
        *("''", '"', "'\u200b'"),
        *("<>", "Mara <>", "Mara <mara>", "a@b>", "<a@b", "<a@b> c", "a@b <c d@e>"),
    ],
)
def test_a_value_that_is_no_address_is_no_contact_email(value: object) -> None:
    assert contact_email(value) is None


@pytest.mark.parametrize(
    "id",
    [
        *(
            "null",
            "NULL",
            "undefined",
            "[object Object]",
            "0",
            "None",
            "NaN",
            "nan",
            "true",
            "False",
        ),
        *("anonymous", "guest", "distinct_id", "distinctId", "id", "email", "not_authenticated"),
        *("(null)", "<null>", "<nil>", "(none)", "(not set)", "<no value>", "'[object Null]'"),
        *("[object Undefined]", "[object Promise]", "[object HTMLInputElement]"),
        *("{{ user.id }}", "{{user\n.id}}", "${user.id}", "%{user_id}", "<%= user.id %>"),
        *("[]", "{}", "()", "[null]", "[undefined]", "Optional(nil)", "user_id", "userId"),
        *("anonymous-user", "Anonymous_User", "n/a", "N/A", "#N/A", "unknown", "-", "-1", "0" * 32),
        *("user_undefined", "user-null", "user:None", "uid=nan", "USER_ID:undefined", "id/null"),
        *("undefined-undefined", "null,null", "undefinedundefined", "user_null_null", "NaN NaN"),
        *("%s", "%d", "%v", "%@", "%(user_id)s", "\u200b", "\u200dnull\u2060", " '\u200b' "),
        *("' \" \x1c`\x85null\u200b' \ufeff\"\u3000", "'\u2060 " * 9),
        *("", " ", "\t\n", "\ufeff", "''", '"null"', "'0'", ' "undefined" ', "`None`", "\"'id'\""),
    ],
)
def test_a_placeholder_for_a_missing_user_is_no_contact_user_id(id: str) -> None:
    assert contact_user_id(id) is None


@pytest.mark.parametrize(
    "id",
    [
        "u_42",
        "00",
        "nobody",
        " u_42 ",
        '"u_42"',
        "ada@example.com",
        "idx",
        "{7}",
        "[7]",
        "%s7",
        "100%",
        "u\u200b_7",
        "Optional(u_7)",
        "[u 7]",
        "$u",
        "<u_7>",
        "(u)",
        *("jennifer.null", "christopher_null", "banan", "user_nan7", "user_", "--", "unknown7"),
    ],
)
def test_any_other_id_is_the_contact_user_id_unchanged(id: str) -> None:
    assert contact_user_id(id) == id


@pytest.mark.parametrize(("value", "blank"), [(None, True), ("\ufeff ", True), ("n/a", False)])
def test_only_a_missing_value_or_white_space_is_blank(value: object, blank: bool) -> None:
    assert is_blank(value) is blank
