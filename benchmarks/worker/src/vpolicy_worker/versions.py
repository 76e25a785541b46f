"""Whether a simulator's environment has the versions that its results depend on."""

from __future__ import annotations

from importlib.metadata import version
from typing import Mapping


def ensure_versions(versions: Mapping[str, str]) -> None:
    """Check the installed packages.

    Args:
        versions: Version that is needed, by package.

    Raises:
        RuntimeError: A package has another one.
    """
    for package, wanted in versions.items():
        if version(package) != wanted:
            raise RuntimeError(f"{package} {wanted} is needed, this environment has {version(package)}")
