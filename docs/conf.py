"""How Sphinx builds the documentation site (`make docs`): ADR 10."""

from __future__ import annotations

from hogsend import __version__

project = "Hogsend"
author = project_copyright = "Hogsend contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]

# Links such as `deploy.md#how-much-disk` work here as they do in the repository.
myst_heading_anchors = 4
# Docstrings write code between single backticks.
default_role = "code"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"Hogsend {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
# Nothing on a page is fetched from elsewhere, and each builds to the same bytes every time.
html_last_updated_fmt = None
