"""The documentation site builds without warnings, and can be read without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hogsend

ROOT = Path(__file__).parents[3]
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)|<link(?! rel=\"(?:next|prev))[^>]+href=\"([^\"]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(directory)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Sphinx warns of links without a target, pages in no menu, and malformed docstrings.
    assert process.returncode == 0, process.stderr
    return directory


def test_every_page_is_built(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in _pages()}
    assert all((site / page).with_suffix(".html").exists() for page in pages)


def test_no_page_loads_a_resource_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = {url for pair in FETCHED.findall(page.read_text()) for url in pair if url}
        assert fetched
        assert not {url for url in fetched if "//" in url}, page.name
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.findall(r"url\(\W?(?:https?:)?//", styles)


REFERENCE_NAMES = [
    "getPostHog()",
    "captureEvent",
    "setPersonProperties",
    "identify",
    "getPersonProperties",
    "isFeatureEnabled",
    "ctx.when",
    "syncPersons",
    "connect-info",
    "provision-loop",
    "provider-credentials/posthog",
    "no_posthog_credential",
    "posthog_not_configured",
    "webhook_secret_missing",
    "api_public_url_unreachable",
    "oauth_unsupported",
    "POSTHOG_API_KEY",
    "POSTHOG_HOST",
    "POSTHOG_WEBHOOK_SECRET",
    "ENABLE_POSTHOG_DESTINATION",
    "POSTHOG_PERSONAL_API_KEY",
    "POSTHOG_PROJECT_ID",
    "POSTHOG_PRIVATE_HOST",
    "API_PUBLIC_URL",
    "ADMIN_API_KEY",
    "BETTER_AUTH_SECRET",
    "--provision-only",
]


def test_the_page_for_users_of_hogsend_in_typescript_contains_its_names(site: Path) -> None:
    page = (ROOT / "docs" / "from-hogsend.md").read_text()
    assert [name for name in REFERENCE_NAMES if name not in page] == []
    headings = re.findall(r"<h3>(.+?)<a", (site / "from-hogsend.html").read_text())
    assert {"getPostHog()", "captureEvent", "ctx.when", "isFeatureEnabled"} <= set(headings)
    # Sphinx's search ranks titles first.
    index = (site / "searchindex.js").read_text()
    assert all(word in index for word in ("getposthog", "captureev", "isfeatureen"))


def test_every_public_name_of_the_library_is_documented(site: Path) -> None:
    library = (site / "library.html").read_text()
    missing = {name for name in hogsend.__all__ if f'id="hogsend.{name}"' not in library}
    assert missing == {"__version__"}


def _pages() -> list[Path]:
    return sorted((ROOT / "docs").rglob("*.md"))
