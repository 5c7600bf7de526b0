"""Every section, case and difference that code, tests and documents cite exists in docs/spec.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEC = ROOT / "docs" / "spec.md"
CITING = ("services", "shared", "cli", "sandbox", "benchmarks", "deploy", "docs", "tests")
SUFFIXES = {".py", ".md", ".sql", ".yaml"}

NUMBER = r"\d+(?:\.\d+)?"
ALSO = rf"(?:(?:,| and| to|, and) {NUMBER})*"
SECTIONS = re.compile(rf"\b[Cc]ontract,? ({NUMBER}{ALSO})")
CASE_GROUPS = re.compile(r"\b[Cc]ases? (12\.\d+)")
CASES = re.compile(r"\b[Cc]ases? (\d+(?:(?:,| and| to|-|, and) ?\d+)*)(?!\d|\.\d)")
CASE_NAMES = re.compile(r"cases?_(\d+(?:_(?:and|to)_\d+)*)")
DIFFERENCES = re.compile(r"\bD-\d+")
MATCH_STATEMENT = re.compile(r"^\s*case \d", re.MULTILINE)


def test_every_cited_section_exists() -> None:
    assert not set(_cited(SECTIONS)) - _sections()
    assert not set(_cited(CASE_GROUPS)) - _sections()


def test_every_cited_case_exists() -> None:
    cited = {*_cited(CASES), *_cited(CASE_NAMES)}
    assert not {int(number) for number in cited} - _cases()


def test_every_cited_difference_exists() -> None:
    existing = set(re.findall(r"^\| (D-\d+) \|", SPEC.read_text(), re.MULTILINE))
    assert not {number for text in _texts() for number in DIFFERENCES.findall(text)} - existing


def test_cases_are_numbered_without_a_gap() -> None:
    assert _cases() == set(range(1, 171))


@pytest.mark.parametrize(
    ("pattern", "text", "numbers"),
    [
        (SECTIONS, "(contract 4.4, 4.5 and 6)", ["4.4", "4.5", "6"]),
        (SECTIONS, "(contract 2.3 to 2.5).", ["2.3", "2.4", "2.5"]),
        (CASES, "Acceptance cases 70-72: PKCE", ["70", "71", "72"]),
        (CASES, "Cases 117 to 119, 123 and 124", ["117", "118", "119", "123", "124"]),
        (CASES, "# Case 107.", ["107"]),
        (CASES, "Acceptance cases 12.1", []),
        (CASE_NAMES, "def test_cases_17_to_19_a_bad_payload", ["17", "18", "19"]),
        (CASE_NAMES, "def test_case_143_discarded", ["143"]),
    ],
)
def test_a_citation_is_parsed_into_its_numbers(
    pattern: re.Pattern[str], text: str, numbers: list[str]
) -> None:
    assert [number for citation in pattern.findall(text) for number in _expand(citation)] == numbers


def _cited(pattern: re.Pattern[str]) -> Iterator[str]:
    for text in _texts():
        for citation in pattern.findall(text):
            yield from _expand(citation)


def _expand(citation: str) -> Iterator[str]:
    """The numbers of a list such as `2.3 to 2.5, 6` or `17_to_21`."""
    for part in re.split(r",? and |, ?|_and_", citation):
        first, *last = re.split(r" to |_to_|-", part)
        if not last:
            yield first
            continue
        chapter, dot, _ = first.rpartition(".")
        start, end = (int(number.rpartition(".")[2]) for number in (first, last[0]))
        yield from (f"{chapter}{dot}{number}" for number in range(start, end + 1))


@cache
def _texts() -> Sequence[str]:
    texts: list[str] = []
    for folder in CITING:
        for directory, folders, files in os.walk(ROOT / folder):
            # Installed packages are large, and do not cite the specification.
            folders[:] = sorted({*folders} - {"node_modules", "__pycache__"})
            paths = (Path(directory, name) for name in sorted(files))
            texts += [
                MATCH_STATEMENT.sub("", path.read_text())
                for path in paths
                if path.suffix in SUFFIXES and path != Path(__file__)
            ]
    return texts


def _sections() -> set[str]:
    spec = SPEC.read_text()
    numbers = set(re.findall(rf"^##+ ({NUMBER})\.? ", spec, re.MULTILINE))
    # Section 11 is a list: its points are cited as 11.1 and so on.
    points = re.findall(r"^(\d+)\. ", _chapter(spec, 11), re.MULTILINE)
    return numbers | {f"11.{point}" for point in points}


def _cases() -> set[int]:
    return {int(n) for n in re.findall(r"^(\d+)\. ", _chapter(SPEC.read_text(), 12), re.MULTILINE)}


def _chapter(spec: str, number: int) -> str:
    return spec.split(f"\n## {number}. ")[1].split("\n## ", maxsplit=1)[0]
