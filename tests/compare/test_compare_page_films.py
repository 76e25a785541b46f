"""Which episodes are shown side by side, and that their films are made by replaying them, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from videopolicy.compare.model import Comparison, Entry
from videopolicy.compare.page.films import films_folder, make_films, scenes
from videopolicy.compare.page.page import write_page
from videopolicy.console.progress import Reporter
from videopolicy.console.terminal import Terminal
from videopolicy.outcomes.records import EpisodeRecord, summarise
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark


def record(task: str, episode: int, success: bool, **changes) -> EpisodeRecord:
    values = {
        "policy": "trained",
        "task": task,
        "episode": episode,
        "success": success,
        "score": float(success),
        "steps": 10,
        "seconds": 0.1,
        "initial_state": f"{task}-{episode}",
        "protocol": "p",
    }
    return EpisodeRecord(**values | changes)


def comparison_of(records: dict[str, list[EpisodeRecord]], folder: Path, tasks: tuple[str, ...]) -> Comparison:
    entries = []
    for name, episodes in records.items():
        (policy,) = {one.policy for one in episodes}
        summary = summarise(episodes)[policy]
        entries.append(
            Entry(name, policy, (folder / name,), (0,), summary.tasks, (), summary.mean, records=(tuple(episodes),))
        )
    return Comparison("toy", {}, "p", tasks, {}, {}, tuple(entries), (), None, ())


def outcomes(task: str, *solved: str) -> list[list[EpisodeRecord]]:
    """Records of every method; a string is one episode, one letter a method, y for solved."""
    return [[record(task, e, text[m] == "y") for e, text in enumerate(solved)] for m in range(len(solved[0]))]


def test_scenes_show_every_way_in_which_an_initial_state_ended(tmp_path):
    first, second = outcomes("push", "nn", "nn", "yy", "yn", "yn", "ny", "yy")
    other_first, other_second = outcomes("pull", "yy", "ny")
    # The first episode of pull began elsewhere, so it is nobody's pair.
    other_second[0] = record("pull", 0, True, initial_state="elsewhere")
    chance = [record("push", 3, True, policy="random")]
    methods = {"a": first + other_first, "b": second + other_second, "random": chance}
    found = scenes(comparison_of(methods, tmp_path, ("push", "pull")))
    assert [(scene.task, scene.episode, scene.pattern) for scene in found] == [
        ("push", 3, "differ"),
        ("pull", 1, "differ"),
        ("push", 5, "differ"),
        ("push", 2, "all"),
        ("push", 0, "none"),
    ]
    assert all(list(scene.records) == ["a", "b"] for scene in found)


def test_an_episode_that_one_method_did_not_finish_is_no_scene(tmp_path):
    first, second = outcomes("push", "yn", "yn")
    second[0] = record("push", 0, False, error="died")
    (scene,) = scenes(comparison_of({"a": first, "b": second}, tmp_path, ("push",)))
    assert scene.episode == 1


@pytest.fixture
def filmed(tmp_path) -> tuple[Comparison, ToyBenchmark]:
    """Two methods on two initial states, one of which stands still in the first."""
    toy = ToyBenchmark(task_names=("red",))
    records: dict[str, list[EpisodeRecord]] = {"walks": [], "stands": []}
    spec = toy.launch()
    with WorkerPool(spec, interpreter(spec), 1, tmp_path / "logs") as pool:
        for method, episode in ((method, episode) for method in records for episode in (0, 1)):
            start = pool.call(0, "reset", task="red", episode=episode)
            actions = np.zeros((12, 2), np.float32)
            if (method, episode) != ("stands", 0):
                image = start["observation"]["images"]["top"].astype(int)
                rows, columns = np.nonzero((image[..., 0] > 200) & (image[..., 1] < 100) & (image[..., 2] < 100))
                target = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / image.shape[0]
                for step in range(len(actions)):
                    position = start["observation"]["state"] + 0.05 * actions[:step].sum(0)
                    actions[step] = np.clip((target - position) / 0.05, -1, 1)
            end = pool.call(0, "step", actions=actions, frames=[])
            path = tmp_path / method / "trajectories" / "trained" / f"red-{episode}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, actions[: end["steps"]])
            facts = {"steps": end["steps"], "initial_state": start["initial_state"]}
            records[method].append(record("red", episode, end["success"], **facts))
    return comparison_of(records, tmp_path, ("red",)), toy


def test_films_are_replayed_once_and_put_into_the_page(filmed, tmp_path):
    comparison, toy = filmed
    page = tmp_path / "comparison.html"
    folder = films_folder(page)
    make_films(comparison, folder, Reporter(quiet=True), 1, toy)
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
    assert len(made) == 4 and [scene.pattern for scene in scenes(comparison)] == ["differ", "all"]
    for name in made:
        with av.open(str(folder / name)) as film:
            assert min(film.streams.video[0].width, film.streams.video[0].height) >= 200
    make_films(comparison, folder, Reporter(quiet=True), 1, toy)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")} == made
    assert write_page(comparison, page).read_text().count('data-src="data:video/mp4') == 4
    # The films of another run by the same name are not this one's.
    walks, stands = comparison.entries
    rerun = replace(stands, records=(tuple(one.model_copy(update={"steps": 7}) for one in stands.records[0]),))
    other = write_page(replace(comparison, entries=(walks, rerun)), page)
    assert other.read_text().count('data-src="data:video/mp4') == 2


class Elsewhere(ToyBenchmark):
    """Needs an environment that nobody made."""

    def launch(self):
        return super().launch().model_copy(update={"requirements": Path(__file__), "environment": "elsewhere"})


def test_without_the_simulator_it_is_said_how_to_get_it(filmed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "films"
    make_films(filmed[0], folder, Reporter(console=Terminal(width=500)), 1, Elsewhere(task_names=("red",)))
    assert "vpolicy env create toy" in capsys.readouterr().out
    assert not folder.exists()
