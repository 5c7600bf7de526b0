"""README shows the output of `hogsend demo`; only the values may differ."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from cli.demo import scenario

README = Path(__file__).parents[3] / "README.md"
LINE = re.compile(r"(?:\d (?P<step>\w+)  |(?:[\d. ]{7} ms| {10})  (?P<name>.{13}) )(?P<text>.+)")


def test_every_line_of_the_demo_in_the_readme_can_be_printed_by_the_demo() -> None:
    shown = README.read_text().partition("$ make demo\n")[2].partition("```")[0]
    lines = [line.removeprefix("  ") for line in shown.splitlines() if line]
    patterns = printed_texts()
    assert len(lines) > 10
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        assert any(text.fullmatch(match["text"]) for text in patterns), line


def printed_texts() -> list[re.Pattern[str]]:
    """Patterns of the texts of steps and reports; a value matches any text."""
    source = ast.parse(Path(scenario.__file__).read_text())
    return [
        re.compile(pattern(call.args[2 if call.func.attr == "_step" else 1]))
        for call in ast.walk(source)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in {"_step", "_report"}
    ]


def pattern(text: ast.expr) -> str:
    if isinstance(text, ast.Constant):
        return re.escape(str(text.value))
    if isinstance(text, ast.JoinedStr):
        return "".join(map(pattern, text.values))
    if isinstance(text, ast.BinOp):
        return pattern(text.left) + pattern(text.right)
    return ".+"
