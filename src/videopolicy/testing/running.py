"""Runs the contract of a registered component, as ``vpolicy check NAME`` does."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from videopolicy.components.kinds import KINDS
from videopolicy.components.registry import Registry, current_registry
from videopolicy.errors import PluginError, RecipeError
from videopolicy.recipes.explaining import explained
from videopolicy.recipes.source import Source

CONTRACTS = {
    "backbone": ("model_contracts.py", "BackboneContract"),
    "benchmark": ("data_contracts.py", "BenchmarkContract"),
    "dataset": ("data_contracts.py", "DatasetContract"),
    "decoder": ("feature_contracts.py", "DecoderContract"),
    "extractor": ("feature_contracts.py", "ExtractorContract"),
    "importer": ("importer_contract.py", "ImporterContract"),
    "learner": ("model_contracts.py", "LearnerContract"),
    "multiplier": ("component_contract.py", "ComponentContract"),
    "policy": ("model_contracts.py", "PolicyContract"),
    "text": ("model_contracts.py", "TextContract"),
}
assert set(CONTRACTS) == set(KINDS)


def run_contract(kind: str, name: str, options: dict[str, Any], registry: Registry | None = None) -> int:
    """Check a component against its contract, with pytest's report on standard output.

    Args:
        kind: Such as ``decoder``.
        name: The component's ``type``.
        options: Its further fields, as in a recipe.
        registry: Where it is looked up; the installed plugins by default.

    Returns:
        pytest's exit code, 0 when every check has passed.

    Raises:
        PluginError: There is no such component, or pytest is not installed.
        RecipeError: The options are not valid.
    """
    registry = registry or current_registry()
    cls = registry.get(kind, name)
    try:
        component = cls.model_validate({"type": name, **options}, context={"registry": registry})
    except ValidationError as error:
        problems = "; ".join(explained(error, Source({"type": name, **options}), registry, cls))
        raise RecipeError(
            f"'{name}' cannot be made of these options: {problems}",
            f"Give its options after the name, such as `vpolicy check {name} option=value`.",
        ) from None
    try:
        import pytest
    except ImportError as error:
        raise PluginError("Checking a component needs pytest.", "Install it: `uv pip install pytest`.") from error
    from videopolicy.testing.component_contract import COMPONENT

    class Chosen:
        """Gives the component to the checks, and lets what many of them stumble over be reported once."""

        def __init__(self) -> None:
            self.told: dict[tuple[str, int, str], str] = {}

        def pytest_configure(self, config: pytest.Config) -> None:
            config.stash[COMPONENT] = component

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
            report = yield
            crash = getattr(report.longrepr, "reprcrash", None)
            if report.failed and crash is not None:
                first = self.told.setdefault((crash.path, crash.lineno, crash.message), item.name)
                if first != item.name:
                    report.longrepr = f"The same as in {first}."
            return report

    folder = Path(__file__).parent
    file, suite = CONTRACTS[kind]
    arguments = [f"{folder / file}::{suite}", "-c", os.devnull, "--rootdir", str(folder), "--noconftest"]
    arguments += ["-p", "no:cacheprovider", "-o", "python_classes=*Contract", "--import-mode=importlib"]
    return int(pytest.main([*arguments, "-q", "-rs", "--tb=short", "--no-header"], plugins=[Chosen()]))
