"""A run's model card: what its records and its provenance say, for whoever finds the policy on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from videopolicy.compare.formats import markdown_table, markdown_text
from videopolicy.console.progress import duration
from videopolicy.deployment.exporting import PLUGINS
from videopolicy.deployment.frozen import FrozenFacts, Published
from videopolicy.deployment.hub import HubName
from videopolicy.outcomes.intervals import span
from videopolicy.outcomes.published import with_sign
from videopolicy.outcomes.records import PolicySummary, Rate
from videopolicy.recipes.recipe import Recipe
from videopolicy.report.contents import RunContents
from videopolicy.report.page import POLICY_NOTES, composition
from videopolicy.storage.provenance import Provenance, StageFacts

UNKNOWN = "unknown"
"""The Hub's identifier where nobody has named a licence."""


def model_card(run: RunContents, recipe: Recipe, name: HubName, licence: str, folder: Path) -> str:
    """The card in Markdown, behind the Hub's metadata in YAML.

    Args:
        run: What its folder says; nothing is missing.
        recipe: Of the run.
        name: Where it is published.
        licence: The Hub's identifier of the licence.
        folder: The exported policy.
    """
    published = FrozenFacts.read(folder).published
    files = sorted(file.name for file in (folder / PLUGINS).glob("*.py"))
    parts = [
        f"# {markdown_text(recipe.name)}",
        f"A robot policy (`{recipe.policy.type}`) for the benchmark `{recipe.benchmark.type}`, trained and evaluated "
        "with `videopolicy`. This card was written from the run's records. Its parts:",
        _listed(f"{path}: {kind}" for path, kind in composition(run.recipe)),
        *_success(run, recipe),
        *_data(run, recipe),
        *_training(run, published),
        *_use(recipe, name, files),
        *_licence(licence, published),
        *_made(run.provenance or Provenance()),
    ]
    return f"---\n{_metadata(run, recipe, licence, published)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(run: RunContents, recipe: Recipe, licence: str, published: Sequence[Published]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    trained = run.summaries.get("trained")
    rates = [rate for rate in (*trained.tasks, trained.mean) if rate.value is not None] if trained else []
    data = ModelCardData(
        license=licence,
        library_name="videopolicy",
        pipeline_tag="robotics",
        tags=["robotics", "videopolicy", recipe.policy.type, recipe.benchmark.type],
        base_model=list(dict.fromkeys(one.id for one in published)) or None,
        model_name=recipe.name,
        eval_results=[
            EvalResult(
                task_type="robotics",
                dataset_type=recipe.benchmark.type,
                dataset_name=f"{recipe.benchmark.type}: {rate.name}",
                dataset_config=rate.name,  # by which the Hub tells them apart
                metric_type="success_rate",
                metric_name=f"success rate, 95 % interval {span(rate.interval)} %, n = {rate.episodes}",
                metric_value=round(100 * (rate.value or 0.0), 1),
            )
            for rate in rates
        ]
        or None,
    )
    return data.to_yaml()


def _success(run: RunContents, recipe: Recipe) -> list[str]:
    trained = run.summaries.get("trained")
    if trained is None:
        return ["## Success", "It was not evaluated."]
    others = [summary for policy, summary in run.summaries.items() if policy != "trained"]
    found = [
        "## Success",
        markdown_table(
            ["task", "success", "95 % interval", "episodes", *(summary.policy for summary in others)],
            _rows(trained, others),
        ),
    ]
    notes = [f"{one.policy}: {POLICY_NOTES[one.policy]}" for one in others if one.policy in POLICY_NOTES]
    notes += [f"{trained.mean.errors} more episodes, which the simulator could not finish, are in no number"] * bool(
        trained.mean.errors
    )
    facts = run.provenance.evaluation if run.provenance else None
    if facts is not None and facts.episodes_from_demonstrated_states is not None:
        count = facts.episodes_from_demonstrated_states
        notes.append(f"{count} of {len(run.records)} episodes began in the initial state of a demonstration")
    notes.append("an interval speaks of new episodes of these tasks, not of another training run")
    settings = recipe.eval
    acting = f"{settings.execute} actions of a chunk are executed; batches of {settings.batch_size}"
    fingerprints = ", ".join(f"`{one}`" for one in dict.fromkeys(record.protocol for record in run.records))
    return [
        *found,
        _listed(notes),
        f"Protocol {fingerprints}; {acting}; {settings.precision}; seed {recipe.seed}:",
        _indented(run.protocol),
    ]


def _rows(trained: PolicySummary, others: Sequence[PolicySummary]) -> list[list[str]]:
    found = []
    for index, rate in enumerate(trained.tasks):
        found.append(_row(rate.name, rate, [one.tasks[index] for one in others]))
    for index, rate in enumerate(trained.tiers if len(trained.tiers) > 1 else ()):
        found.append(_row(f"mean of {rate.name}", rate, [one.tiers[index] for one in others]))
    found.append(_row("mean", trained.mean, [one.mean for one in others]))
    for metric, value in trained.mean.metrics.items():
        compared = [f"{one.mean.metrics[metric]:.3g}" if metric in one.mean.metrics else "" for one in others]
        found.append([metric, f"{value:.3g}", "", str(trained.mean.episodes), *compared])
    return found


def _row(name: str, rate: Rate, others: Iterable[Rate]) -> list[str]:
    def whole(one: Rate) -> str:
        return "" if one.value is None else f"{with_sign(one.value)} ({span(one.interval)}), n = {one.episodes}"

    if rate.value is None:
        return [name, "no episodes", "", "0", *map(whole, others)]
    return [name, with_sign(rate.value), f"{span(rate.interval)} %", str(rate.episodes), *map(whole, others)]


def _data(run: RunContents, recipe: Recipe) -> list[str]:
    provenance = run.provenance or Provenance()
    lines = []
    if (data := provenance.data) is not None:
        count = sum(data.episodes.values())
        by_task = ", ".join(f"{task} {number}" for task, number in data.episodes.items())
        lines.append(f"{count} demonstrations, collected in {data.benchmark} and kept as {data.type}: {by_task}")
    elif recipe.data is not None:
        lines.append(f"recorded episodes that were at hand, read as {recipe.data.type}")
    lines += [f"stage {stage.name} has data of its own" for stage in recipe.train if stage.data is not None]
    lines += provenance.data_remarks
    return ["## Data", _listed(lines) if lines else "The run had no data: its weights were taken as they are."]


def _training(run: RunContents, published: Sequence[Published]) -> list[str]:
    stages = [stage for name in run.stage_names if (stage := run.stage(name)) is not None]
    header = ["stage", "trains", "steps", "time", "on", "parameters", "trained", "final losses"]
    found = ["## Training", markdown_table(header, [_stage(stage) for stage in stages])]
    notes = [f"stage {stage.name}: {remark}" for stage in stages for remark in stage.remarks]
    found += [_listed(notes)] if notes else []
    if published:
        found += [
            "Published weights that it builds on. What no stage has trained is not in this repository; loading fetches "
            "it and compares it with what the policy was trained with:",
            _listed(
                (
                    f"[{one.id}](https://huggingface.co/{one.id}/tree/{one.revision}) (`{one.option}`)"
                    for one in published
                ),
                plain=False,
            ),
        ]
    return found


def _stage(stage: StageFacts) -> list[str]:
    counts = [f"{count:,}" if count is not None else "" for count in (stage.parameters, stage.trainable_parameters)]
    time = duration(stage.seconds) if stage.seconds else ""
    device = f"{stage.devices} x {stage.device}" if stage.devices > 1 else stage.device or ""
    losses = ", ".join(f"{loss} {value:.4g}" for loss, value in stage.final_losses.items())
    return [stage.name, stage.target, f"{stage.steps:,}", time, device, *counts, losses]


def _use(recipe: Recipe, name: HubName, files: Sequence[str]) -> list[str]:
    spaces, window = recipe.benchmark.spaces(), recipe.policy.window()
    frames = f"{len(window.observed)}, " if len(window.observed) > 1 else ""
    images = ", ".join(f"{c.name!r}: np.zeros(({frames}{c.height}, {c.width}, 3), np.uint8)" for c in spaces.cameras)
    state = f"np.zeros(({frames}{spaces.state.dim},))  # {', '.join(spaces.state.names)}" if spaces.state else "None"
    sentence = next((task.instruction for task in recipe.benchmark.tasks()), "")
    trust, option = (", trust=True", " --trust") if files else ("", "")
    lines = [
        "import numpy as np",
        "import videopolicy",
        "",
        f"policy = videopolicy.load({str(name)!r}{trust})",
        f"images = {{{images}}}  # RGB",
        f"state = {state}",
        f"chunk = policy.act(images, state, {sentence!r})  # {(window.horizon, spaces.actions.dim)}",
    ]
    found = ["## Use", "\n".join(["```python", *lines, "```"])]
    found.append(f"`vpolicy serve {name}{option}` serves it to robots.")
    if files:
        listed = ", ".join(f"`{PLUGINS}/{file}`" for file in files)
        found.append(f"Loading it runs Python files of this repository ({listed}): read them first.")
    return found


def _licence(licence: str, published: Sequence[Published]) -> list[str]:
    what = (
        f"`{licence}`."
        if licence != UNKNOWN
        else "Whoever published this policy has named none: ask before you use it."
    )
    own = " The published weights that it builds on have licences of their own." if published else ""
    return ["## Licence", what + own]


def _made(provenance: Provenance) -> list[str]:
    machine = provenance.machine
    at = [machine.processor, machine.accelerator or "", f"Python {machine.python}", machine.platform]
    lines = [
        f"finished {provenance.finished}" + (f", after {duration(provenance.seconds)}" if provenance.seconds else ""),
        f"on {', '.join(text for text in at if text)}",
        *([f"source tree at commit {provenance.commit}"] if provenance.commit else []),
        ", ".join(f"{package} {number}" for package, number in provenance.versions.items()),
    ]
    return ["## Made", _listed(lines)]


def _listed(lines: Iterable[str], plain: bool = True) -> str:
    return "\n".join(f"- {markdown_text(line) if plain else line}" for line in lines)


def _indented(value: Any) -> str:
    """Plain data as a block of code, which no text in it can end."""
    text = yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
    return "\n".join(f"    {line}" for line in text.splitlines())
