"""Contracts of datasets and benchmarks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videopolicy.components.building import title
from videopolicy.components.kinds import BenchmarkComponent, DatasetComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import PublishedNumber, WorkerSpec
from videopolicy.contracts.dataset import Dataset
from videopolicy.contracts.samples import ensure_sound_sample
from videopolicy.errors import SimulationError, VpolicyError
from videopolicy.simulators.environments import interpreter, is_ready
from videopolicy.simulators.workers import WorkerPool
from videopolicy.spaces import Spaces
from videopolicy.testing.component_contract import ComponentContract, equal
from videopolicy.testing.toy_data import toy_episode
from videopolicy.types import Window

WINDOW = Window(observed=(-2, 0), future=(1, 5), horizon=3)
TASKS = ("one", "another")
EPISODES_OF_A_TASK = 20
"""Evaluation episodes whose initial states no demonstration may have."""
ATTEMPTS_OF_AN_EXPERT = 5
STEPS_PER_CALL = 25


class DatasetContract(ComponentContract):
    """A dataset cuts recorded episodes into windows. One that is collected is first filled with toy episodes."""

    @pytest.fixture
    def folder(self, component: DatasetComponent, spaces: Spaces, tmp_path: Path) -> Path | None:
        """Collected demonstrations, when the component asks for some."""
        if component.demonstrations() is None:
            return None
        writer = component.writer(tmp_path / "collected", spaces)
        for task in TASKS:
            for attempt in range(3):
                writer.add(toy_episode(spaces, task, attempt, steps=6 + attempt))
        return writer.finish({task: [0, 2] for task in TASKS})

    @pytest.fixture
    def dataset(self, component: DatasetComponent, folder: Path | None) -> Dataset:
        return component.build(folder)

    def test_windows_have_the_declared_shapes(self, component: DatasetComponent, dataset: Dataset) -> None:
        windows, spaces = dataset.windows(WINDOW), dataset.spaces
        assert len(windows) > 0, "The training split has no window."
        rows = [0, len(windows) - 1, len(windows) // 2]
        batch = windows.batch(rows)
        assert list(batch.observation.images) == [camera.name for camera in spaces.cameras], (
            "The cameras of a batch are not those of `spaces`, in their order."
        )
        for camera in spaces.cameras:
            for frames, images in ((2, batch.observation.images), (2, batch.future)):
                found, expected = images[camera.name], (3, frames, 3, camera.height, camera.width)
                assert found.dtype == torch.uint8, f"Images of '{camera.name}' are {found.dtype}, not uint8."
                assert tuple(found.shape) == expected, f"Images are {tuple(found.shape)}, not {expected}."
        assert batch.actions is not None, "The window asks for actions, and the batch has none."
        arrays: dict[str, tuple[Any, tuple[int, ...], torch.dtype]] = {
            "actions": (batch.actions, (3, 3, spaces.actions.dim), torch.float32),
            "action_mask": (batch.action_mask, (3, 3), torch.bool),
            "future_mask": (batch.future_mask, (3, 2), torch.bool),
        }
        if spaces.state is not None:
            arrays["state"] = (batch.observation.state, (3, 2, spaces.state.dim), torch.float32)
        for name, (values, shape, kind) in arrays.items():
            assert values is not None, f"`{name}` is missing in the batch."
            assert (tuple(values.shape), values.dtype) == (shape, kind), (
                f"`{name}` is {tuple(values.shape)} {values.dtype}, not {shape} {kind}."
            )
        assert all(batch.observation.instructions), "An instruction is empty."
        assert torch.isfinite(batch.actions[batch.action_mask]).all(), "Actions contain NaN or infinity."
        ensure_sound_sample(windows, WINDOW, spaces, title(component))

    def test_what_is_known_before_it_is_opened_is_true(self, component: DatasetComponent, dataset: Dataset) -> None:
        wrong = dataset.spaces.misfits(component.declared(), "the opened dataset", "`declared`")
        assert not wrong, f"`declared` says what the opened dataset is not: {wrong[0][1]}."

    def test_a_window_that_asks_for_little_gets_little(self, dataset: Dataset) -> None:
        batch = dataset.windows(Window()).batch([0])
        assert batch.actions is None and batch.future == {}, "A window of one frame got actions or future frames."

    def test_the_end_of_an_episode_is_masked(self, dataset: Dataset) -> None:
        windows = dataset.windows(Window(future=(1,), horizon=2))
        batch = windows.batch(range(min(len(windows), 512)))
        assert batch.action_mask is not None and batch.future_mask is not None
        assert batch.action_mask[:, 0].any(), "No window has an action."
        for row in torch.nonzero(~batch.future_mask[:, 0]).flatten().tolist():
            assert not batch.action_mask[row, 1], "A window at the last frame claims a further action."
            for camera, future in batch.future.items():
                equal(future[row, 0], batch.observation.images[camera][row, 0], "Past the end, the repeated last frame")

    def test_a_window_does_not_depend_on_its_batch(self, dataset: Dataset) -> None:
        windows = dataset.windows(WINDOW)
        last = len(windows) - 1
        one, other = windows.batch([last, 0]), windows.batch([0, 1, last])
        for camera, images in one.observation.images.items():
            equal(images[0], other.observation.images[camera][2], "The images of a window depend on its batch")
        assert one.actions is not None and other.actions is not None and one.action_mask is not None
        there = one.action_mask[0]
        equal(one.actions[0][there], other.actions[2][there], "The actions of a window depend on its batch")
        assert one.observation.instructions[0] == other.observation.instructions[2]

    def test_windows_can_be_sent_to_another_process(self, dataset: Dataset) -> None:
        windows = dataset.windows(WINDOW)
        copy = pickle.loads(pickle.dumps(windows))
        for camera, images in windows.batch([0]).observation.images.items():
            equal(copy.batch([0]).observation.images[camera], images, "After pickling, the images")

    def test_statistics_are_those_of_the_training_split(self, dataset: Dataset) -> None:
        windows = dataset.windows(Window(horizon=1))
        batch = windows.batch(range(len(windows)))
        assert batch.actions is not None and batch.action_mask is not None
        found, values = dataset.statistics().actions, batch.actions[batch.action_mask].double().numpy()
        for name, said, true in (
            ("minimum", found.minimum, values.min(0)),
            ("maximum", found.maximum, values.max(0)),
            ("mean", found.mean, values.mean(0)),
            ("deviation", found.deviation, values.std(0)),
        ):
            assert np.allclose(said, true, atol=1e-4), f"The {name} of the actions is {true.tolist()}, not {said}."
        assert (dataset.statistics().state is None) == (dataset.spaces.state is None)

    def test_opened_again_it_is_the_same(
        self, component: DatasetComponent, dataset: Dataset, folder: Path | None
    ) -> None:
        again = component.build(folder)
        assert again.fingerprint() == dataset.fingerprint(), "The fingerprint differs when the data is opened again."
        assert again.splits == dataset.splits, "The splits differ when the data is opened again."
        assert "train" in dataset.splits, f"There is no split 'train', only {sorted(dataset.splits)}."
        assert isinstance(dataset.initial_states(), frozenset)
        assert again.files() == dataset.files(), "The files differ when the data is opened again."
        for file in dataset.files():
            assert file.is_file(), f"`files` names {file}, which is no file."
        dataset.verify()

    def test_opened_with_a_cache_it_is_the_same(
        self, component: DatasetComponent, dataset: Dataset, folder: Path | None, tmp_path: Path
    ) -> None:
        for time in ("first", "second"):
            again = component.open(folder, tmp_path / "cache", Reporter(quiet=True))
            assert again.fingerprint() == dataset.fingerprint(), (
                f"Opened with a cache for the {time} time, the fingerprint is another than that of `build`."
            )

    def test_an_unknown_split_is_explained(self, dataset: Dataset) -> None:
        with pytest.raises(VpolicyError, match="nowhere"):
            dataset.windows(WINDOW, "nowhere")

    def test_what_was_collected_comes_back(
        self, component: DatasetComponent, dataset: Dataset, folder: Path | None, spaces: Spaces
    ) -> None:
        if folder is None:
            pytest.skip("This dataset exists already and is not collected.")
        assert dataset.spaces == spaces, "The spaces of the collected data are not those given to the writer."
        episodes = [toy_episode(spaces, task, attempt, steps=6 + attempt) for task in TASKS for attempt in (0, 2)]
        assert dataset.initial_states() <= {episode.initial_state for episode in episodes}
        windows = dataset.windows(Window(horizon=1))
        actions = windows.batch(range(len(windows))).actions
        assert actions is not None
        recorded = {row.tobytes() for episode in episodes for row in episode.actions}
        assert {row.tobytes() for row in actions[:, 0].numpy()} <= recorded, "Actions were changed on the way."


class BenchmarkContract(ComponentContract):
    """A benchmark declares its tasks, and its simulator keeps to the declaration."""

    def test_tasks_are_complete(self, component: BenchmarkComponent) -> None:
        tasks = component.tasks()
        assert tasks, "There is no task."
        names = [task.name for task in tasks]
        assert len(names) == len(set(names)), f"Two tasks have one name: {names}."
        for task in tasks:
            assert task.instruction and task.max_steps > 0, f"Task '{task.name}' lacks an instruction or steps."
        assert component.tasks() == tasks, "`tasks` gives something else when it is called again."

    def test_action_bounds_fit(self, component: BenchmarkComponent) -> None:
        actions = component.spaces().actions
        assert len(actions.low) == len(actions.high) == actions.dim, "`low`, `high` and `names` differ in length."
        assert all(low < high for low, high in zip(actions.low, actions.high, strict=True)), "A bound is empty."

    def test_protocol_is_plain_and_stable(self, component: BenchmarkComponent) -> None:
        text = json.dumps(component.protocol(), sort_keys=True)
        again = type(component).model_validate(component.model_dump(mode="json"))
        assert json.dumps(again.protocol(), sort_keys=True) == text, "`protocol` differs between equal components."

    @pytest.fixture
    def spec(self, component: BenchmarkComponent) -> WorkerSpec:
        try:
            return component.launch()
        except SimulationError as error:  # such as a benchmark that so far only declares its tasks and spaces
            assert error.hint, f"The error of `launch` does not say what to do: {error.message}"
            pytest.skip(error.message)

    def test_launch_names_files_that_exist(self, spec: WorkerSpec) -> None:
        for path in (spec.module, spec.requirements):
            assert path is None or path.is_file(), f"`launch` names {path}, which does not exist."
        json.dumps(spec.config)

    def test_published_numbers_say_where_they_stand(self, component: BenchmarkComponent) -> None:
        for number in component.published():
            assert isinstance(number, PublishedNumber) and number.source, f"{number!r} has no source."
            assert np.isfinite(number.value) and number.group, f"{number!r} is not a number for a group."

    def test_closeup_differs_in_pictures_only(self, component: BenchmarkComponent) -> None:
        closeup = component.closeup()
        assert closeup.tasks() == component.tasks(), "`closeup` has other tasks."
        assert closeup.spaces().actions == component.spaces().actions, "`closeup` has other actions."

    @pytest.fixture(scope="class")
    @classmethod
    def pools(cls) -> Iterator[tuple[ExitStack, dict[str, WorkerPool]]]:
        """Workers by what they run, kept for all checks: a first scene may take longer to build than they do."""
        with ExitStack() as stack:
            yield stack, {}

    @pytest.fixture
    def pool(
        self,
        component: BenchmarkComponent,
        spec: WorkerSpec,
        pools: tuple[ExitStack, dict[str, WorkerPool]],
        tmp_path: Path,
    ) -> WorkerPool:
        """One worker, whose answers are checked against the declared spaces as they are in a run."""
        if not is_ready(spec):
            pytest.skip(f"The environment of '{spec.environment}' is not installed; `vpolicy env` makes it.")
        stack, started = pools
        longest = max(task.max_steps for task in component.tasks())
        if repr(spec) not in started:
            pool = WorkerPool(spec, interpreter(spec), 1, tmp_path, component.spaces(), longest)
            started[repr(spec)] = stack.enter_context(pool)
        return started[repr(spec)]

    def test_simulator_keeps_to_the_declaration(self, component: BenchmarkComponent, pool: WorkerPool) -> None:
        task = component.tasks()[0].name
        first = asked(pool, "reset", task=task, episode=0)
        second = asked(pool, "reset", task=task, episode=1)
        again = asked(pool, "reset", task=task, episode=0)
        asked(pool, "step", actions=hold(component, 1), frames=[1])
        assert first["initial_state"] == again["initial_state"], "An episode's initial state differs on a second reset."
        assert first["initial_state"] != second["initial_state"], "Episodes 0 and 1 begin in the same state."
        for camera in component.spaces().cameras:
            one, other = first["observation"]["images"][camera.name], again["observation"]["images"][camera.name]
            assert np.array_equal(one, other), f"Camera '{camera.name}' sees another picture on a second reset."

    def test_an_index_beyond_the_stored_states_is_an_error(
        self, component: BenchmarkComponent, pool: WorkerPool
    ) -> None:
        stored = component.stored_states()
        if stored is None:
            pytest.skip("This benchmark draws initial states from seeds: any index has one.")
        for task in component.tasks()[:2]:
            asked(pool, "reset", task=task.name, episode=stored - 1, images=False)
            with pytest.raises(SimulationError, match="ValueError"):
                pool.call(0, "reset", task=task.name, episode=stored, images=False)
                pytest.fail(
                    f"`stored_states` is {stored}, and `reset` has a state for episode {stored} of task '{task.name}'. "
                    "Raise a ValueError: an index that wraps evaluates one state twice.",
                    pytrace=False,
                )

    def test_an_episode_ends_at_the_step_limit(self, component: BenchmarkComponent, pool: WorkerPool) -> None:
        task = component.tasks()[0]
        asked(pool, "reset", task=task.name, episode=0)
        steps, over = 0, False
        while not over and steps < task.max_steps:
            count = min(STEPS_PER_CALL, task.max_steps - steps)
            answer = asked(pool, "step", actions=hold(component, count), frames=[])
            steps += answer["steps"]
            over = answer["done"] or answer["success"]
        assert over, f"`step` does not say `done` after the {task.max_steps} steps of task '{task.name}'."

    def test_experts_succeed_from_states_of_their_own(self, component: BenchmarkComponent, pool: WorkerPool) -> None:
        task = component.tasks()[0].name
        # Where demonstrations begin in stored states on purpose, evaluation has those before them.
        own, _ = getattr(component, "demonstrations_from", None) or (EPISODES_OF_A_TASK, None)
        count = min(EPISODES_OF_A_TASK, own, component.stored_states() or EPISODES_OF_A_TASK)
        resets = [asked(pool, "reset", task=task, episode=e, images=False) for e in range(count)]
        evaluated = {reset["initial_state"]: episode for episode, reset in enumerate(resets)}
        demonstrated: dict[str, int] = {}
        solved = False
        for attempt in range(ATTEMPTS_OF_AN_EXPERT):
            shown = asked(pool, "demonstrate", task=task, attempt=attempt, action_noise=0.0)
            state = shown["initial_state"]
            assert state not in evaluated, (
                f"Demonstration {attempt} of task '{task}' begins in the state of evaluation episode "
                f"{evaluated.get(state)}: success would be remembered, not learned."
            )
            assert state not in demonstrated, (
                f"Demonstrations {demonstrated.get(state)} and {attempt} of task '{task}' begin in the same state."
            )
            demonstrated[state] = attempt
            solved = solved or shown["success"]
            if solved and attempt:
                break
        assert solved, f"The expert of task '{task}' solved none of {ATTEMPTS_OF_AN_EXPERT} attempts."


def hold(component: BenchmarkComponent, count: int) -> np.ndarray:
    """``(count, A)`` float32: the middle of every bound, again and again."""
    actions = component.spaces().actions
    return np.tile((np.array(actions.low) + np.array(actions.high)) / 2, (count, 1)).astype(np.float32)


def asked(pool: WorkerPool, method: str, **arguments: Any) -> Any:
    """What the simulator answers; a failure of the check with its reason where it does not do so as agreed."""
    try:
        return pool.call(0, method, **arguments)
    except SimulationError as error:
        if method == "demonstrate" and "NotImplementedError" in error.message.splitlines()[0]:
            pytest.skip("This benchmark has no experts.")
        pytest.fail(error.message, pytrace=False)
