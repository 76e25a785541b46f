"""What a shell is offered, and the version."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from command import vpolicy

import videopolicy
from videopolicy import testing


def offered(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_VPOLICY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return vpolicy(folder, **asked).stdout.split()


def test_a_shell_is_offered_what_there_is(tmp_path: Path):
    (tmp_path / "recipes").mkdir()
    for name in ("one.yaml", "other.yaml", "one.txt"):
        (tmp_path / "recipes" / name).touch()
    assert offered(tmp_path, "vpolicy desc") == ["describe"]
    assert offered(tmp_path, "vpolicy describe modul") == ["modular"]
    assert offered(tmp_path, "vpolicy describe extr") == ["extractor"]
    assert offered(tmp_path, "vpolicy new d") == ["decoder", "dataset"]
    assert offered(tmp_path, "vpolicy run re") == ["recipes/"]
    assert offered(tmp_path, "vpolicy run recipes/on") == ["recipes/one.yaml"]
    assert offered(tmp_path, "vpolicy check recipes/o") == ["recipes/one.yaml", "recipes/other.yaml"]


def test_version(tmp_path: Path):
    done = vpolicy(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"vpolicy {version('videopolicy')}\n")


def test_all_names_are_found_by_whoever_explores():
    assert set(videopolicy.__all__) <= set(dir(videopolicy))
    assert set(testing.__all__) <= set(dir(testing))
