"""The lists of core modules that enter keys are complete: they are compared with what is imported."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import grimp
import pytest

import videopolicy
from videopolicy.storage.identity import COLLECTION, CORE, TRAINING

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [path.parent.name for path in sorted(ROOT.glob("[pb]*/*/src/vpolicy_*/__init__.py"))]

# Imported on the way, without a say in what is computed.
HARMLESS = {
    "components.builtin": "says which parts there are",
    "components.building": "only says what is wrong",
    "components.fields": "reads parts of a recipe, which enter keys as they were read",
    "components.hookspecs": "finds plugins",
    "components.kinds": "the options of a part enter keys as they were read",
    "components.plugins": "finds plugins",
    "components.registry": "finds plugins",
    "components.sources": "makes keys",
    "console.monitor": "measures time and memory",
    "console.progress": "shows progress",
    "console.terminal": "shows progress",
    "console.text": "shows progress",
    "contracts.benchmark": "what a benchmark declares enters keys as it is",
    "contracts.checked": "only says what is wrong",
    "contracts.importer": "what was imported enters keys as a file",
    "contracts.latents": "carries what was encoded, which enters keys as a file",
    "contracts.measured": "names parts for measurements",
    "contracts.multiplier": "carries where things are in a simulator, from which episodes are made",
    "contracts.samples": "only says what is wrong",
    "contracts.state_dicts": "what was imported enters keys as a file",
    "errors": "only says what is wrong",
    "importing.pickles": "reads files whose content enters keys",
    "importing.reading": "reads files whose content enters keys",
    "paths": "finds files",
    "parts.catalogue": "chooses tasks and reads published numbers; a stage sees the data",
    "parts.collecting": "keeps parts of collections; what is in them plugins write",
    "parts.files": "writes what it is given",
    "parts.messages": "carries what policies behind servers see and do, which nothing is trained on",
    "parts.options": "what a recipe says enters keys as it was read",
    "parts.pictures": "only says what is wrong",
    "parts.pickles": "reads files whose content enters keys",
    "parts.requirements": "only says what is missing",
    "parts.sentences": "reads sentences, which enter the data's fingerprint as they were read",
    "parts.weights": "offers the core's module of this name, which is judged itself",
    "recipes.explaining": "only says what is wrong",
    "recipes.recipe": "what a recipe says enters keys as it was read",
    "recipes.shipped": "where a recipe lies; what it says enters keys as it was read",
    "recipes.source": "what a recipe says enters keys as it was read",
    "recipes.stage_data": "what a recipe says enters keys as it was read",
    "recipes.trust": "finds plugins",
    "storage.digests": "makes keys",
    "storage.files": "writes what it is given",
    "storage.identity": "makes keys",
    "storage.integrity": "compares files with what was written",
    "storage.plain_yaml": "what a recipe says enters keys as it was read",
    "storage.provenance": "describes what was done",
    "storage.run_folder": "finds folders",
    "storage.store": "finds folders",
    "storage.surroundings": "describes the machine",
    "training.curves": "reads what was logged",
    "training.loggers": "keeps curves, from which nothing is computed",
    "training.tracking": "asks services whether they are there",
    "training.inputs": "checks that files are there; what they hold enters keys",
    "training.planning": "makes keys",
    "training.remarks": "says what was done",
    "training.resuming": "says from where a stage goes on, not where it ends",
    "training.session": "carries the recipe, the store and the device",
    "training.validation": "measures, and leaves the weights as they are",
    "training.weight_files": "names of files",
}
HARMLESS_WHEN_COLLECTING = {
    "components.building": "only says what is wrong",
    "components.sources": "makes keys",
    "components.kinds": "the request and the benchmark's options enter keys as they were read",
    "console.progress": "shows progress",
    "console.terminal": "shows progress",
    "console.text": "shows progress",
    "contracts.checked": "only says what is wrong",
    "errors": "only says what is wrong",
    "paths": "finds files",
    "simulators.answers": "lets an answer through as it is, or not at all",
    "simulators.assets": "which ones they are enters keys with the benchmark's options and the simulator's",
    "simulators.checkouts": "the commit enters keys with the simulator's options, and its content is compared",
    "simulators.environments": "what it makes environments from enters keys",
    "simulators.output": "shows what simulators print",
    "simulators.process": "carries questions and answers",
    "simulators.sockets": "finds a folder",
    "simulators.workers": "carries questions and answers",
    "storage.files": "writes what it is given",
    "storage.integrity": "compares files with what was written",
    "storage.logs": "cuts what simulators have printed",
    "storage.provenance": "describes what was done",
    "storage.store": "finds folders",
    "storage.temporary": "makes folders that are gone at the end",
    "types": "an image and a vector are what they are",
}


@lru_cache(maxsize=1)
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("videopolicy", *PACKAGES, exclude_type_checking_imports=True)


def imported_for(*modules: str) -> set[str]:
    """Modules and what they import, directly or not, without the package's name."""
    found = set(modules).union(*(graph().find_upstream_modules(module) for module in modules))
    packages = {one for one in graph().modules if graph().find_children(one)}
    return {one.removeprefix("videopolicy.") for one in found - packages if one.startswith("videopolicy.")}


def used_by_plugins() -> set[str]:
    """What our own plugins import of the core, and what the core offers to everybody's."""
    offered = {f"videopolicy.{name}" for name in videopolicy._LAZY.values()}
    own = {module for module in graph().modules if module.startswith("vpolicy_")}
    taken = set().union(*(graph().find_modules_directly_imported_by(module) for module in own))
    return offered | {module for module in taken if module.startswith("videopolicy.")}


@pytest.mark.parametrize("modules", [TRAINING, COLLECTION])
def test_the_lists_name_modules_that_exist_in_order(modules: tuple[str, ...]):
    assert list(modules) == sorted(modules)
    assert [name for name in modules if not (CORE / f"{name.replace('.', '/')}.py").is_file()] == []


def test_every_module_of_the_training_path_is_judged():
    assert len(PACKAGES) > 10
    entries = ("videopolicy.training.stages", "videopolicy.components.builtin")
    imported = imported_for(*entries, *used_by_plugins())
    assert imported - set(TRAINING) - set(HARMLESS) == set(), "Does it decide what a stage computes?"
    assert (set(TRAINING) | set(HARMLESS)) - imported == set(), "Nothing of training imports it any more."
    assert set(TRAINING) & set(HARMLESS) == set()


def test_every_module_of_collecting_is_judged():
    imported = imported_for("videopolicy.data.collection")
    assert imported - set(COLLECTION) - set(HARMLESS_WHEN_COLLECTING) == set(), "Does it decide what is collected?"
    assert (set(COLLECTION) | set(HARMLESS_WHEN_COLLECTING)) - imported == set()
    assert set(COLLECTION) & set(HARMLESS_WHEN_COLLECTING) == set()
