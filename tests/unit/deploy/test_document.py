"""What `tests/engine/run_document.py` finds in docs/deploy.md, without an engine to run it on."""

from __future__ import annotations

from tests.engine.reader import LEFT_OUT, blocks
from tests.engine.run_document import DOCUMENT, PLAN, planned
from tests.engine.run_rotation import DOCUMENT as ROTATION


def test_the_blocks_that_are_run_are_there() -> None:
    found = planned(DOCUMENT.read_text())
    assert [block.section for block in found] == [*PLAN, PLAN[-1]]
    commands = [command for block in found for command in block.commands]
    assert {*commands} >= LEFT_OUT
    assert not any("#" in command for command in commands)
    # The two that ask a server that runs, once it does.
    assert found[0].commands[-3].endswith("up -d --wait")
    assert found[0].commands[-2].startswith("curl ")
    assert "hogsend doctor" in found[0].commands[-1]


def test_no_document_passes_a_key_as_an_argument() -> None:
    assert "--admin-key" not in DOCUMENT.read_text()


def test_no_block_asks_a_gateway_that_it_has_only_just_replaced() -> None:
    for document in (DOCUMENT, ROTATION):
        for block in blocks(document.read_text()):
            started: str | None = None
            for command in block.commands:
                if "hogsend connect" in command or command.startswith("curl "):
                    assert started is None or "--wait" in started, block
                    # What another line would undo before it has been looked at.
                    assert command in block.commands[-2:], block
                if "docker compose" in command and " up -d" in command:
                    started = command
