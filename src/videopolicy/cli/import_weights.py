"""``vpolicy import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videopolicy.cli import completing

if TYPE_CHECKING:
    from videopolicy.components.kinds import ImporterComponent
    from videopolicy.components.registry import Registry
    from videopolicy.console.progress import Reporter
    from videopolicy.contracts.dataset import Statistics
    from videopolicy.contracts.importer import Imported
    from videopolicy.recipes.recipe import Normalization, Recipe


def import_weights(
    type_: Annotated[
        str,
        typer.Argument(
            metavar="TYPE", help="Importer, as `vpolicy plugins` lists them.", autocompletion=completing.importers
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="The published file or folder.", show_default=False)],
    options: Annotated[list[str] | None, typer.Argument(help="Options of the importer, such as a.b=c.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the weights.", show_default=False)] = ...,  # type: ignore[assignment]
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that the weights must fit; its data give the scaling of actions.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that is pickled in the file.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace weights that lie in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors and the summary only.")] = False,
) -> None:
    """Turn published weights into a folder that recipes can start from. Nothing pickled is run without --trust."""
    from videopolicy.components.registry import current_registry
    from videopolicy.console.progress import Reporter
    from videopolicy.recipes.recipe import load_recipe

    loaded = load_recipe(recipe) if recipe else None
    importer = _importer(type_, options or [], loaded.registry if loaded else current_registry())
    reporter = Reporter(quiet)
    # These need torch: everything that can be checked without it has been.
    from videopolicy.importing import folder as folders
    from videopolicy.importing.reading import read_published
    from videopolicy.importing.tensors import converted

    folders.ensure_unoccupied(output, force, checkpoint)
    reporter.line(f"read {checkpoint}")
    read = read_published(importer, checkpoint, trust)
    imported = converted(importer, read)
    folders.ensure_complete(imported, str(checkpoint))
    if loaded is not None:
        folders.ensure_same_policy(imported, loaded, str(checkpoint))
    scaling = _scaling(imported, loaded, reporter)
    reporter.line(f"write {output}")
    own = imported.statistics is not None
    origin = "the checkpoint" if own else "the recipe's data" if scaling else None
    facts = {"importer": importer.model_dump(mode="json"), "trusted": trust, "scaling": origin}
    facts = folders.write_imported(imported, read, facts, output, loaded, scaling)
    _summarise(facts, output, loaded.name if loaded else None)


def _importer(name: str, options: list[str], registry: Registry) -> ImporterComponent:
    from videopolicy.components.kinds import ImporterComponent
    from videopolicy.recipes.single import component_from
    from videopolicy.recipes.source import Source, override

    source = Source({"type": name})
    for text in options:
        override(source, text)
    return component_from(source, ImporterComponent, registry)


def _scaling(imported: Imported, recipe: Recipe | None, reporter: Reporter) -> tuple[Normalization, Statistics] | None:
    """How vectors are scaled: as the checkpoint says, or from the recipe's data, which only a whole policy needs."""
    from videopolicy.data.preparation import prepare_data
    from videopolicy.recipes.recipe import Normalization
    from videopolicy.storage.store import Store
    from videopolicy.training.normalization import statistics_for

    if imported.statistics is not None:
        return Normalization.model_validate(imported.normalization), imported.statistics
    if imported.target != "policy":
        return None
    if recipe is None or recipe.data is None:
        imported.not_carried.append(
            "The scaling of actions and state: import with --recipe RECIPE, whose data give it, or name the data "
            "in the recipe that uses these weights."
        )
        return None
    dataset, _ = prepare_data(recipe, Store(), reporter)
    reporter.line("compute the scaling of actions and state")
    return recipe.normalization, statistics_for(recipe, dataset.statistics())


def _summarise(facts: dict[str, Any], folder: Path, recipe: str | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from videopolicy.console.terminal import Terminal
    from videopolicy.errors import listing

    console = Terminal()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("part", overflow="fold")
    for column in ("tensors", "parameters"):
        table.add_column(column, justify="right")
    for name, part in facts["parts"].items():
        table.add_row(name, str(part["tensors"]), f"{part['parameters']:,}")
    console.print(Text(f"{facts['source']['file']}, for {facts['target'] or 'a folder of its own'}", "bold"))
    console.print(table)
    remarks = [f"dropped {len(names)}: {reason} ({listing(names, 1)})" for reason, names in facts["dropped"].items()]
    if facts["inert"]:
        remarks.append(f"not run: {listing(facts['inert'], 4)}")
    remarks += facts["remarks"]
    if recipe is not None:
        remarks.append(f"names, shapes and options: those of recipe {recipe}")
    else:
        remarks += _needed(facts["target"], facts["options"], facts["normalization"])
    if facts["scaling"]:
        remarks.append(f"scaling of actions and state: from {facts['scaling']}")
    remarks += [f"not carried: {sentence}" for sentence in facts["not_carried"]]
    for remark in remarks:
        console.print(Text(remark), overflow="fold")
    console.print(Text(f"written to {folder}"), soft_wrap=True)
    if facts["place"]:
        console.print(Text(f"{facts['place']}: {folder}", "bold"), soft_wrap=True)
    elif facts["target"]:
        target = "" if facts["target"] == "policy" else f"target: {facts['target']}, "
        console.print(
            Text(f"train: [{{name: imported, {target}init_from: {folder}, steps: 0}}]", "bold"), soft_wrap=True
        )


def _needed(target: str, options: dict[str, Any], normalization: dict[str, str]) -> list[str]:
    """What a recipe must say, one line for each component or section."""
    import yaml

    sections: dict[str, dict[str, Any]] = {}
    for path, value in options.items():
        section, _, name = f"{target}.{path}".rpartition(".")
        sections.setdefault(section, {})[name] = value
    if normalization:
        sections["normalization"] = dict(normalization)
    return [
        f"a recipe needs {section}: {yaml.safe_dump(values, default_flow_style=True, width=1000).strip()}"
        for section, values in sections.items()
    ]
