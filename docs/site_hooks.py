"""What the site changes: README is its first page, and links to code go to the repository.

The pages themselves are written for who reads them in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_page_markdown(text: str, *, page: Any, config: Any, **_: Any) -> str:
    """The text of a page as the site shows it."""
    if page.file.src_uri == "index.md":
        text = (ROOT / "README.md").read_text().replace("](docs/", "](")
        page.title = "Start"
    return re.sub(r"\]\(([^)#\s]+)([^)]*)\)", lambda link: _link(link, page, config), text)


def _link(link: re.Match[str], page: Any, config: Any) -> str:
    """A link out of the documents, as one to the repository; any other as it is."""
    target, rest = link.groups()
    docs = ROOT / "docs"
    path = ((docs / page.file.src_uri).parent / target).resolve()
    if page.file.src_uri == "index.md" and not path.exists():  # README's
        path = ROOT / target
    if "://" in target or path.is_relative_to(docs) or not path.exists():
        return link[0]
    return f"]({config['repo_url']}/blob/main/{path.relative_to(ROOT)}{rest})"
