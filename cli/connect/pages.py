"""The pages that the browser shows after the callback. They contain nothing from the request."""

from __future__ import annotations

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hogsend: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center;
  font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 26rem; padding: 2rem; }}
h1 {{ font-size: 1.4rem; margin: 0 0 .5rem; }}
h1::before {{ content: ""; display: inline-block; width: .7rem; height: .7rem;
  margin-right: .6rem; border-radius: 50%; background: {colour}; }}
p {{ margin: 0 0 .5rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
<p>You can close this tab and return to your terminal.</p>
</main>
</body>
</html>
"""


def success_page(title: str, text: str) -> str:
    """Render the page after a granted consent."""
    return _PAGE.format(title=escape(title), text=escape(text), colour="#2da44e")


def error_page(title: str, text: str) -> str:
    """Render the page after a failed callback."""
    return _PAGE.format(title=escape(title), text=escape(text), colour="#cf222e")
