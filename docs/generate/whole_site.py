"""A hook of mkdocs: the site has the shape of the repository, so that a relative link works in both.

Documents of the repository's root become pages, and so that nothing is linked in vain, every file that a document links
to is part of the site: pictures, licences, and the board's own page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Everything under its path in the repository."""
    root = Path(config.config_file_path).resolve().parent
    docs = Path(config.docs_dir)
    themes = [file for file in files if not Path(file.abs_src_path or "/").is_relative_to(docs)]
    paths = {root / name for name in (*ROOT, *config.extra_css)} | {*docs.glob("*.md")}
    paths |= {target for page in paths for target in _linked(page) if target.is_relative_to(root)}
    own = [
        File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path))
        for path in sorted(paths)
        if path.is_file()
    ]
    return Files([*themes, *own])


def _linked(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {(page.parent / link).resolve() for link in _LINK.findall(page.read_text(encoding="utf-8"))}
