"""What MkDocs calls while it builds the site: generated pages, pages from beside docs/, and the navigation."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_links import ROOT, place_of, relinked, repository_pages
from site_navigation import expanded, patterns
from site_reference import FOLDER, reference_pages

_made: dict[str, str] = {}
"""Pages that are not below docs/, by their place on the site."""


def on_config(config: MkDocsConfig) -> None:
    """Make the pages that are not below docs/, and list all that patterns of the navigation name."""
    entries = config.nav or []
    _made.clear()
    pages = written_pages(entries)
    _made.update(reference_pages() | repository_pages(pages))
    config.nav = expanded(entries, sorted({*map(place_of, pages), *_made}))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not below docs/."""
    for place, text in _made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files beside docs/ lead to their pages."""
    place = page.file.src_uri
    return markdown if place.startswith(FOLDER) else relinked(markdown, place)


def written_pages(entries: list[object]) -> dict[str, str]:
    """Markdown by path from the root of the repository: all of docs/, and what the navigation names beside it."""
    beside = [pattern.removeprefix("../") for pattern in patterns(entries) if pattern.startswith("../")]
    found = [*ROOT.glob("docs/**/*.md"), *(path for pattern in beside for path in ROOT.glob(pattern))]
    named = {path.relative_to(ROOT).as_posix(): path for path in found}
    return {
        name: path.read_text(encoding="utf-8") for name, path in named.items() if not name.startswith("docs/examples/")
    }
