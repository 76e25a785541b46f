"""A recipe: one file that says everything about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from videopolicy.components.fields import AnyBenchmark, AnyDataset, AnyPolicy
from videopolicy.components.kinds import Component, DatasetComponent, LearnerComponent
from videopolicy.components.registry import Registry, current_registry
from videopolicy.errors import RecipeError, did_you_mean, listing
from videopolicy.paths import input_paths
from videopolicy.recipes.explaining import declared_spaces, explained
from videopolicy.recipes.shipped import located
from videopolicy.recipes.source import Location, override, read_recipe
from videopolicy.recipes.stage_data import StageData, components_of, data_problems, needs_numbers
from videopolicy.recipes.trust import with_plugin_files
from videopolicy.storage.plain_yaml import Place


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _paths = field_validator("*")(input_paths)


class Normalization(_Section):
    """How vectors are scaled before a model sees them; the statistics are stored with the weights.

    Args:
        actions, state: To [-1, 1] between the extremes (``minmax``), to mean 0 and deviation 1 (``standard``), or not.
        unscaled: Names of dimensions of actions or state that are left as they are, such as those of a rotation.
    """

    actions: Literal["identity", "minmax", "standard"] = "identity"
    state: Literal["identity", "minmax", "standard"] = "standard"
    unscaled: tuple[str, ...] = ()


class Optimizer(_Section):
    """AdamW."""

    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    epsilon: float = Field(1e-8, gt=0)


class Schedule(_Section):
    """Learning rate over a stage: linear warm-up, then constant, or a cosine down to ``final`` times the rate."""

    type: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    final: float = Field(0.0, ge=0, le=1)


class Stage(_Section):
    """One stage of training.

    Args:
        name: Unique in the recipe.
        target: What is trained: ``policy``, or a part of it such as ``policy.extractor.backbone``.
        data: What it trains on: a dataset, or a list of `videopolicy.recipes.stage_data.Part` with ratios that add up
            to 1, which mixes the videos of several. None: the recipe's data.
        steps: Optimiser steps. 0: the weights in ``init_from``, and their scaling of vectors where the folder has it,
            are taken as they are.
        batch_size: Windows per optimiser step and device; must be given where there are steps.
        optimizer, schedule: How the weights move.
        precision: Lightning's name of the numerical precision. On a processor ``16-mixed`` becomes ``bf16-mixed``,
            which is said and recorded; ``32-true`` multiplies matrices in TF32 where an accelerator has it.
        gradient_clip: Largest norm of the gradient; None for no clipping.
        accumulate: Batches per optimiser step.
        ema_decay: Decay of an exponential moving average of the weights, which then replaces them; None for none.
        ema_warmup: Let the decay grow with the step n, ``1 - n ** -ema_warmup`` up to ``ema_decay``; 0.75 is usual.
            None: the same decay from the first step on.
        cache_features: Compute the target's frozen features once and train on them from disk.
        init_from: Folder with weights for the target, such as another run's stage or what ``vpolicy import`` wrote.
        devices: Accelerators to train on (data parallel), over all nodes.
        strategy: How they divide the work. ``ddp``: each holds the whole model. ``fsdp``: each holds a share of the
            weights, gradients and states of the optimiser, and gathers a layer when it is its turn, which takes longer.
        data_workers: Processes that load data for every device; 0 loads in the training process. None: that on a
            processor, and up to four where an accelerator trains. Results do not depend on it.
        validate_every: Before the first step and after every so many, the losses on the same held-out windows, with the
            same noise, are added to the curves, of every part of a mixture by itself; where nothing is held out, on
            training windows. None: never.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)
    target: str = "policy"
    data: StageData | None = None
    steps: int = Field(ge=0)
    batch_size: int = Field(1, ge=1)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"] = "32-true"
    gradient_clip: float | None = Field(None, gt=0)
    accumulate: int = Field(1, ge=1)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    ema_warmup: float | None = Field(None, gt=0)
    cache_features: bool = False
    init_from: Path | None = None
    devices: int = Field(1, ge=1)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    data_workers: int | None = Field(None, ge=0)
    validate_every: int | None = Field(None, ge=1)


class Evaluation(_Section):
    """How the policy is tried out.

    Args:
        episodes: Episodes a task, on initial states 0 .. episodes - 1. 0: train only; no simulator is started.
        execute: Actions of every chunk that are carried out before the policy is asked again.
        workers: Simulator processes. Results do not depend on it.
        batch_size: Rows of every forward pass; empty rows are padded, so results depend on nothing else. More rows than
            workers cost time and give nothing; with fewer, workers wait for a row.
        precision: Numbers in which policies compute matrix products and convolutions: ``bf16`` and ``fp16`` are quicker
            where the device has them and give other actions, so that they make another run. Autoencoders stay in fp32
            unless their options say otherwise.
        compile: Compile policies with ``torch.compile`` before their first decision, which takes a minute or several
            and is worth it in long evaluations. Actions differ by rounding, so that it makes another run. A processor
            needs a C++ compiler.
        graphs: Capture what policies compute as CUDA graphs, which saves the launches of thousands of small kernels.
            The kernels stay the same, so that actions differ by rounding if at all; it makes another run too. Needs a
            CUDA device.
        baselines: Further rows: the same policy before training, and uniformly random actions.
    """

    episodes: int = Field(20, ge=0)
    execute: int = Field(1, ge=1)
    workers: int = Field(4, ge=1)
    batch_size: int = Field(4, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    graphs: bool = False
    baselines: tuple[Literal["untrained", "random"], ...] = ()


class Recipe(_Section):
    """Everything about a run.

    Args:
        name: Name of the run folder; by default the file's name.
        seed: All draws of training and evaluation follow from it.
        plugins: Python files with further components, relative to the recipe; toys as modules, such as
            ``videopolicy.testing.toys``.
        benchmark, policy: Components.
        data: Component. May be left out where no stage has steps and the weights come with their scaling.
        normalization: Scaling of actions and state.
        train: Stages in order; later ones start from what earlier ones have trained. None for a policy without weights.
        eval: Evaluation.
        tracking: Where training curves go besides the CSV files: ``tensorboard``; ``wandb``, also offline
            (``WANDB_MODE=offline``); ``trackio``, whose database is local.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=200)
    seed: int = Field(0, ge=0)
    plugins: tuple[Path, ...] = ()
    benchmark: AnyBenchmark
    data: AnyDataset | None = None
    policy: AnyPolicy
    normalization: Normalization = Normalization()
    train: tuple[Stage, ...] = ()
    eval: Evaluation = Evaluation()
    tracking: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)

    _registry: Registry = PrivateAttr(default_factory=current_registry)

    @property
    def registry(self) -> Registry:
        """Where this recipe's components were looked up, its own plugin files included."""
        return self._registry

    @field_validator("name")
    @classmethod
    def _names_a_folder_inside(cls, name: str) -> str:
        if name in (".", ".."):
            raise ValueError(f"'{name}' is no folder of its own: a run would be written over others")
        return name

    def required_data(self) -> DatasetComponent:
        """The data, for what cannot do without.

        Raises:
            RecipeError: The recipe has none.
        """
        if self.data is None:
            raise RecipeError(f"The recipe '{self.name}' has no data.", "Add `data` to it, with the type of a dataset.")
        return self.data

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        found: list[tuple[Location, str]] = []
        names = [stage.name for stage in self.train]
        for index, stage in enumerate(self.train):
            if stage.name in names[:index]:
                found.append((("train", index, "name"), f"an earlier stage is also named '{stage.name}'"))
            found += [(("train", index, name), text) for name, text in _step_problems(stage)]
            if problem := self._target_problem(stage):
                found.append((("train", index, "target"), problem))
            elif stage.data is not None:
                wrong = data_problems(stage.data, self.data, self._learner(stage).window(), stage.steps)
                found += [(("train", index, *where), text) for where, text in wrong]
            whole = [earlier for earlier in self.train[:index] if stage.target.startswith(f"{earlier.target}.")]
            if whole:
                text = f"stage '{whole[0].name}' has already trained {whole[0].target}, of which this is a part"
                found.append((("train", index, "target"), text))
        training = [stage.name for stage in self.train if stage.steps and stage.data is None]
        if self.data is None and training:
            found.append((("data",), f"this field is required: stage '{training[0]}' trains on it"))
        spaces = declared_spaces(self.benchmark)
        known = (*spaces.actions.names, *(spaces.state.names if spaces.state else ()))
        for name in self.normalization.unscaled:
            if name not in known:
                text = f"no action or state is called '{name}'.{did_you_mean(name, known)} Known: {listing(known, 24)}"
                found.append((("normalization", "unscaled"), text))
        if self.data is not None:
            ours = f"benchmark '{self.benchmark.type}'"
            misfits = spaces.misfits(self.data.declared(), ours, "the data section")
            found += [(("data", *part.split(".")), text) for part, text in misfits]
        found += [(("policy",), text) for text in self.policy.check(spaces)]
        horizon = self.policy.window().horizon
        found += self._weight_problems()
        if self.eval.execute > horizon:
            text = f"{self.eval.execute} actions cannot be executed: the policy predicts {horizon}"
            found.append((("eval", "execute"), text))
        found += self._state_problems()
        if found:
            raise ValidationError.from_exception_data(
                "Recipe",
                [
                    InitErrorDetails(type=PydanticCustomError("fit", "{text}", {"text": text}), loc=at, input={})
                    for at, text in found
                ],
            )
        return self

    def _weight_problems(self) -> list[tuple[Location, str]]:
        """Stages of a policy that has no weights, or none of one that has; a last one without a scaling of actions."""
        if not self.policy.learns:
            problems = [
                (("train",), bool(self.train), "has no weights to train"),
                (("normalization",), self.normalization != Normalization(), "acts in the benchmark's own units"),
                (("eval", "baselines"), "untrained" in self.eval.baselines, "has no weights that could be untrained"),
            ]
            return [(at, f"policy '{self.policy.type}' {text}: leave it out") for at, wrong, text in problems if wrong]
        if not self.train:
            return [(("train",), "this field is required: at least one stage")]
        last = self.train[-1]
        own = self.eval.episodes and last.data is not None and not self._target_problem(last)
        if own and not needs_numbers(self._learner(last).window()):
            text = f"the last stage, '{last.name}', sees videos alone: nothing says how actions are scaled. Set it to 0"
            return [(("eval", "episodes"), text)]
        return []

    def _state_problems(self) -> list[tuple[Location, str]]:
        """What does not fit the benchmark's stored initial states: too many episodes, demonstrations from the same."""
        stored, episodes = self.benchmark.stored_states(), self.eval.episodes
        found: list[tuple[Location, str]] = []
        if stored is not None and episodes > stored:
            ours = f"benchmark '{self.benchmark.type}' has {stored} stored initial states for each"
            text = f"{episodes} episodes a task are asked for: {ours}, and none is used twice"
            found.append((("eval", "episodes"), text))
        at: Location = ("benchmark", "demonstrations_from")
        asked: tuple[int, int] | None = getattr(self.benchmark, "demonstrations_from", None)
        if asked is None:
            return found
        first, last = asked
        if stored is None or not 0 <= first < last <= stored:
            there = f"0 to {stored}" if stored is not None else "none: it has no stored states"
            text = f"[{first}, {last}] is no range of stored states, first and last + 1; there are {there}"
            return [*found, (at, text)]
        if first < episodes:
            text = (
                f"demonstrations begin in the stored states {first} to {last - 1}, and evaluation in the states 0 to "
                f"{episodes - 1}: success would be remembered, not learned. Begin at {episodes}, or evaluate fewer"
            )
            found.append((at, text))
        request = self.data.demonstrations() if self.data else None
        if request is not None and (wanted := request.first_attempt + request.episodes_per_task) > last - first:
            text = f"{wanted} attempts a task are needed, and benchmark.demonstrations_from has {last - first} states"
            found.append((("data", "episodes_per_task"), text))
        return found

    def _learner(self, stage: Stage) -> LearnerComponent:
        """What a stage trains, where its target is right."""
        component = self.part(stage.target)
        assert isinstance(component, LearnerComponent)
        return component

    def _target_problem(self, stage: Stage) -> str:
        try:
            component = self.part(stage.target)
        except KeyError as error:
            return str(error.args[0])
        if not isinstance(component, LearnerComponent):
            return f"'{stage.target}' is a {component.kind} and cannot be trained on its own"
        return ""

    def part(self, path: str) -> Component:
        """The component at a dotted path that starts with ``policy``.

        Raises:
            KeyError: There is none; the message names the parts that there are.
        """
        first, *rest = path.split(".")
        component: Component = self.policy
        if first != "policy":
            raise KeyError(f"'{path}' does not start with 'policy'")
        for name in rest:
            parts = component.parts()
            if name not in parts:
                raise KeyError(
                    f"'{component.type}' has no part '{name}'.{did_you_mean(name, parts)} It has {listing(parts)}"
                )
            component = parts[name]
        return component

    def components(self) -> list[Component]:
        """All components of the recipe, nested ones included."""
        found: list[Component] = []
        own = [one for stage in self.train if stage.data for one in components_of(stage.data, None)]
        queue: list[Component] = [self.benchmark, *([self.data] if self.data else []), *own, self.policy]
        while queue:
            component = queue.pop(0)
            found.append(component)
            queue += component.parts().values()
        return found


def _step_problems(stage: Stage) -> list[tuple[str, str]]:
    """What a stage misses for its number of steps, and options without effect: field and sentence."""
    if stage.steps and "batch_size" not in stage.model_fields_set:
        return [("batch_size", "this field is required")]
    if not stage.steps and stage.init_from is None:
        return [("steps", "0 steps take weights as they are: init_from must name their folder")]
    if stage.ema_warmup is not None and stage.ema_decay is None:
        return [("ema_warmup", "it has no effect without ema_decay")]
    if stage.strategy == "fsdp" and stage.devices == 1:
        return [
            ("strategy", "fsdp divides a model among devices, and this stage has one: set devices, or leave fsdp out")
        ]
    if stage.strategy == "fsdp" and stage.precision == "16-mixed":
        text = "16-mixed scales gradients, which strategy fsdp does not support: set bf16-mixed or 32-true"
        return [("precision", text)]
    if stage.schedule.type == "constant" and stage.schedule.final:
        return [("schedule", "final has no effect on a constant learning rate; set type: cosine")]
    return []


def load_recipe(
    path: Path,
    overrides: list[str] | tuple[str, ...] = (),
    registry: Registry | None = None,
    trust: bool = True,
) -> Recipe:
    """Read, complete and check a recipe; no weight is allocated.

    Args:
        path: YAML file, or the name of a recipe that comes with the package.
        overrides: Assignments such as ``train.video.steps=100``, applied in order.
        registry: Where components are looked up; the installed plugins by default.
        trust: Whether the Python files that it names may be run.

    Raises:
        RecipeError: With the path in the recipe, the line in the file, and near names.
        PluginError: A plugin file cannot be used.
    """
    path = located(Path(path))
    source = read_recipe(path)
    for text in overrides:
        override(source, text)
    if "name" not in source.data:
        source.data["name"] = path.stem
        source.place.inner["name"] = Place(f"{path} (a run is called like its file unless `name` says otherwise)")
    registry = registry or current_registry()
    files = source.data.get("plugins") or []
    if isinstance(files, list) and all(isinstance(file, str) for file in files):
        registry, found = with_plugin_files(registry, files, path, trust)
        source.data["plugins"] = [str(file) for file in found]
    try:
        recipe = Recipe.model_validate(source.data, context={"registry": registry})
    except ValidationError as error:
        lines = explained(error, source, registry, Recipe)
        raise RecipeError(
            f"{path} is not a valid recipe:\n" + "\n".join(f"  {line}" for line in lines),
            "Correct the recipe; `vpolicy check RECIPE` checks it without running it.",
        ) from None
    recipe._registry = registry
    return recipe
