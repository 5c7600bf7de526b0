"""The blocks of two documents that `tests/engine` runs are there, read without an engine."""

from __future__ import annotations

from tests.engine.checkout import SKIPPED_COMMANDS, blocks, sections
from tests.engine.run_document import DOCUMENT, PLAN, planned
from tests.engine.run_rotation import DOCUMENT as ROTATION


def test_the_document_has_every_block_that_the_engine_test_runs() -> None:
    planned_blocks = planned(DOCUMENT.read_text())
    named = [block.section for block in planned_blocks]
    assert list(dict.fromkeys(named)) == list(PLAN)
    # One block makes a backup, the other restores it.
    assert {section: named.count(section) for section in PLAN} == {
        section: 2 if section == "Backup and restore" else 1 for section in PLAN
    }
    commands = [command for block in planned_blocks for command in block.commands]
    assert {*commands} >= SKIPPED_COMMANDS
    assert not any("#" in command for command in commands)
    # The two commands that need a running server follow the one that waits for it.
    assert planned_blocks[0].commands[-3].endswith("up -d --wait")
    assert planned_blocks[0].commands[-2].startswith("curl ")
    assert "hogsend doctor" in planned_blocks[0].commands[-1]


def test_the_documents_have_the_sections_that_the_engine_tests_run() -> None:
    deploy, rotation = sections(DOCUMENT.read_text()), sections(ROTATION.read_text())
    # `run_upgrade` and `run_restore`
    names = ("Upgrades", "Two gateways behind one port", "Back to an earlier version")
    assert [len(deploy[name]) for name in names] == [1, 2, 2]
    assert len(deploy["Backup and restore"]) == 2
    assert "hogsend connect" in deploy["With a stand-in for PostHog"][0].commands[1]
    # `run_pods`
    assert "generate_secrets.py" in deploy["Kubernetes"][0].commands[0]
    # `run_rotation` adapts these blocks to other services and users.
    assert len(rotation["Admin keys"]) == 2
    for name, texts in {
        "NATS": ("nats/gateway", "nats gateway"),
        "PostgreSQL": ("postgres/ingest", "ingest"),
        "The signing key": (" --rotate-signing-key",),
    }.items():
        assert all(text in " ".join(rotation[name][0].commands) for text in texts), name
    assert len(rotation["NATS"]) == len(rotation["PostgreSQL"]) == 1
    assert len(rotation["The webhook secret"]) == len(rotation["The signing key"]) == 3
    assert any("--rotate" in block.commands[0] for block in rotation["`BETTER_AUTH_SECRET`"])


def test_no_document_passes_a_key_as_an_argument() -> None:
    assert "--admin-key" not in DOCUMENT.read_text()


def test_no_block_calls_a_gateway_before_it_is_ready_again() -> None:
    for document in (DOCUMENT, ROTATION):
        for block in blocks(document.read_text()):
            started: str | None = None
            for command in block.commands:
                if "hogsend connect" in command or command.startswith("curl "):
                    assert started is None or "--wait" in started, block
                    # The result of such a command is checked after the block, so it comes last.
                    assert command in block.commands[-2:], block
                if "docker compose" in command and " up -d" in command:
                    started = command
