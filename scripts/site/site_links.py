"""Pages link to files beside docs/, as on a code host: on the site these files are pages, too."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "repository/"
"""Where the site has files from beside docs/."""

_LINK = re.compile(r'(?<=\]\()[^)\s]+(?=\))|(?<=src=")[^"\s]+(?=")')
_FENCE = re.compile(r"^ *(`{3,}|~{3,})")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml"}


def repository_pages(sources: dict[str, str]) -> dict[str, str]:
    """Pages for all files that pages link to, directly or through each other.

    Args:
        sources: Markdown by path from the root of the repository.

    Returns:
        Markdown by place on the site, of what is not below docs/.
    """
    found: dict[str, str] = {}
    waiting = list(sources.items())
    seen = set(sources)
    while waiting:
        source, text = waiting.pop()
        if place_of(source).startswith(REPOSITORY):
            found[place_of(source)] = text
        for target in _targets(source, text):
            if target not in seen and place_of(target).startswith(REPOSITORY):
                seen.add(target)
                waiting.append((target, _as_markdown(target)))
    return found


def place_of(path: str) -> str:
    """The site's page for a file of the repository."""
    inside = path.removeprefix("docs/")
    if inside != path and not inside.startswith("examples/"):
        return inside
    return f"{REPOSITORY}{path}" if path.endswith(".md") else f"{REPOSITORY}{path}.md"


def source_of(place: str) -> str:
    """The file of the repository that a page is made of."""
    if not place.startswith(REPOSITORY):
        return f"docs/{place}"
    path = place.removeprefix(REPOSITORY)
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def relinked(text: str, place: str) -> str:
    """A page whose links lead to places on the site. Links that lead nowhere stay, for MkDocs to report."""
    source = source_of(place)
    if not source.endswith(".md"):
        return text

    def moved(link: str) -> str:
        target = _target(source, link)
        if target is None:
            return link
        _, mark, anchor = link.partition("#")
        return posixpath.relpath(place_of(target), posixpath.dirname(place) or ".") + mark + anchor

    return "\n".join(_each_line(text, lambda line: _LINK.sub(lambda match: moved(match[0]), line)))


def _each_line(text: str, change: Callable[[str], str]) -> Iterator[str]:
    """Lines, changed where they are not code."""
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
        yield line if fence or mark else change(line)


def _targets(source: str, text: str) -> Iterator[str]:
    links: list[str] = []
    list(_each_line(text, lambda line: links.extend(_LINK.findall(line)) or line))
    for link in links:
        if (target := _target(source, link)) is not None:
            yield target


def _target(source: str, link: str) -> str | None:
    """The file that a link names, from the root of the repository; a folder's is its README."""
    path, _, _ = link.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if (ROOT / target).is_dir():
        target = posixpath.join(target, "README.md")
    return target if (ROOT / target).is_file() else None


def _as_markdown(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n````{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n````\n"
