"""Films and predictions on the toy benchmark: recorded with real workers, replayed, checked, made once."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import torch

from videopolicy import Learner, Observation, Policy, Window
from videopolicy.console.progress import Reporter
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.report.predictions import make_predictions, psnr
from videopolicy.report.videos import make_videos
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.run_folder import RunFolder
from videopolicy.testing.toy_benchmark import ToyBenchmark

TASKS = ("red", "blue")


@pytest.fixture
def toy() -> ToyBenchmark:
    return ToyBenchmark(task_names=TASKS)


def record_episodes(folder, benchmark: ToyBenchmark) -> None:
    """Per task an episode that walks to the target, read off the picture, and one that stands still."""
    log, spec = EpisodeLog(folder / "episodes.jsonl"), benchmark.launch()
    with WorkerPool(spec, interpreter(spec), 1, folder / "logs") as pool:
        for task in TASKS:
            for episode in (0, 1):
                start = pool.call(0, "reset", task=task, episode=episode)
                color = {"red": 0, "blue": 2}[task]
                actions = np.zeros((30, 2), np.float32)
                if episode == 1:
                    image = start["observation"]["images"]["top"].astype(int)
                    others = [c for c in range(3) if c != color]
                    rows, columns = np.nonzero((image[..., color] > 200) & (image[..., others] < 100).all(-1))
                    target = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / image.shape[0]
                    for step in range(30):
                        position = start["observation"]["state"] + 0.05 * actions[:step].sum(0)
                        actions[step] = np.clip((target - position) / 0.05, -1, 1)
                end = pool.call(0, "step", actions=actions, frames=[])
                assert end["success"] is (episode == 1)
                path = folder / "trajectories" / "trained" / f"{task}-{episode}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, actions[: end["steps"]])
                log.append(
                    EpisodeRecord(
                        policy="trained",
                        task=task,
                        episode=episode,
                        success=end["success"],
                        score=end["score"],
                        steps=end["steps"],
                        seconds=0.1,
                        initial_state=start["initial_state"],
                        protocol="p",
                    )
                )


@pytest.fixture
def toy_run(tmp_path, toy):
    record_episodes(tmp_path, toy)
    return tmp_path


def times(folder) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "videos").iterdir() if path.suffix != ".json"}


def test_films_show_what_was_recorded_and_are_made_once(toy_run, toy):
    make_videos(RunFolder(toy_run), toy, Reporter(quiet=True))
    index = json.loads((toy_run / "videos" / "videos.json").read_text())
    names = {f"{task}-{outcome}.mp4" for task in TASKS for outcome in ("success", "failure")}
    assert set(index) == set(times(toy_run)) == names
    records = {(r.task, r.success): r for r in EpisodeLog(toy_run / "episodes.jsonl").read()}
    for name, facts in index.items():
        record = records[facts["task"], facts["success"]]
        assert facts["differences"] == ""
        with av.open(str(toy_run / "videos" / name)) as film:
            stream = film.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert float(stream.average_rate) == pytest.approx(10)
            assert sum(1 for _ in film.decode(stream)) == record.steps + 1
    before = times(toy_run)
    make_videos(RunFolder(toy_run), toy, Reporter(quiet=True))
    assert times(toy_run) == before


def test_only_what_changed_is_filmed_again_and_what_is_gone_is_removed(toy_run, toy):
    make_videos(RunFolder(toy_run), toy, Reporter(quiet=True))
    before = times(toy_run)
    path = toy_run / "trajectories" / "trained" / "red-0.npy"
    np.save(path, np.full((30, 2), 0.001, np.float32))
    log = toy_run / "episodes.jsonl"
    kept = [line for line in log.read_text().splitlines() if '"task":"blue","episode":1' not in line]
    log.write_text("\n".join(kept) + "\n")
    make_videos(RunFolder(toy_run), toy, Reporter(quiet=True))
    after = times(toy_run)
    assert set(before) - set(after) == {"blue-success.mp4"}
    assert {name for name in after if after[name] != before[name]} == {"red-failure.mp4"}


def test_a_replay_that_ends_differently_is_said(toy_run, toy):
    np.save(toy_run / "trajectories" / "trained" / "red-1.npy", np.zeros((2, 2), np.float32))
    make_videos(RunFolder(toy_run), toy, Reporter(quiet=True))
    facts = json.loads((toy_run / "videos" / "videos.json").read_text())["red-success.mp4"]
    assert "instead of" in facts["differences"] and "failed" in facts["differences"]


def test_a_broken_simulator_costs_its_film_only(toy_run, toy):
    breaking = toy.model_copy(update={"raises_at": (0, 3)})
    make_videos(RunFolder(toy_run), breaking, Reporter(quiet=True))
    assert set(times(toy_run)) == {"red-success.mp4", "blue-success.mp4"}


class Still(Policy):
    """Predicts that nothing moves, in red, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.asked: list[Observation] = []

    clip_offsets = (0, 1, 2, 3)
    predicted_cameras = ("top",)

    @property
    def window(self) -> Window:
        return Window(observed=(-1, 0))

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation, generator):
        raise NotImplementedError

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=1.0):
        self.asked.append(observation)
        present = observation.images["top"][:, -1:, None]
        return present.repeat(1, 1, len(self.clip_offsets), 1, 1, 1).transpose(1, 2).flatten(1, 2)[:, None]


def test_predictions_are_compared_with_what_happened_and_made_once(toy_run, toy):
    policy = Still()
    make_predictions(RunFolder(toy_run), toy, policy, Reporter(quiet=True))
    index = json.loads((toy_run / "videos" / "predictions.json").read_text())
    assert set(index) == set(TASKS)
    asked = [observation.instructions for observation in policy.asked]
    assert sorted(asked) == sorted([f"move the dot to the {task} square"] for task in TASKS)
    for facts in index.values():
        assert facts["success"] is True and facts["episode"] == 1
        assert facts["offsets"] == list(policy.clip_offsets)
        # This model predicts stillness, so it is exactly as good as stillness, and the dot does move.
        assert facts["psnr"] == pytest.approx(facts["psnr_still"]) and 5 < facts["psnr"] < 40
    observation = policy.asked[0]
    assert observation.images["top"].shape == (1, 2, 3, 16, 16) and observation.images["top"].dtype == torch.uint8
    assert len(times(toy_run)) == 4
    before = times(toy_run)
    make_predictions(RunFolder(toy_run), toy, policy, Reporter(quiet=True))
    assert times(toy_run) == before and len(policy.asked) == 2


def test_other_weights_predict_anew(toy_run, toy):
    policy = Still()
    make_predictions(RunFolder(toy_run), toy, policy, Reporter(quiet=True))
    (toy_run / "provenance.json").write_text(json.dumps({"stages": [{"name": "video", "key": "other"}]}))
    make_predictions(RunFolder(toy_run), toy, policy, Reporter(quiet=True))
    assert len(policy.asked) == 4


class StillWithPast(Still):
    @property
    def window(self) -> Window:
        return Window(past_actions=3)


def test_predictions_are_told_the_actions_before_them(toy_run, toy):
    policy = StillWithPast()
    make_predictions(RunFolder(toy_run), toy, policy, Reporter(quiet=True))
    index = json.loads((toy_run / "videos" / "predictions.json").read_text())
    for observation in policy.asked:
        task = observation.instructions[0].split()[5]
        now = index[task]["now"]
        actions = np.load(toy_run / "trajectories" / "trained" / f"{task}-1.npy")
        told = observation.past_actions[0]
        known = min(now, 3)
        assert told.shape == (3, 2) and told[: 3 - known].isnan().all()
        assert np.array_equal(told[3 - known :], actions[now - known : now])
    assert max(facts["now"] for facts in index.values()) > 0


class Pushed(Learner):
    """A model of dynamics: predicts that nothing moves, and keeps the actions that it was told."""

    clip_offsets = (4,)
    predicted_cameras = ("top",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.told: dict[str, torch.Tensor] = {}

    @property
    def window(self) -> Window:
        return Window(future=(4,), horizon=6)

    def loss(self, batch):
        raise NotImplementedError

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=1.0):
        self.told[observation.instructions[0].split()[5]] = actions
        return observation.images["top"][:, None]


class Holder(Policy):
    """Predicts no video itself, and has a part that may."""

    window = Window()

    def __init__(self, *parts: torch.nn.Module) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation, generator):
        raise NotImplementedError


def test_a_model_of_dynamics_is_told_the_actions_that_were_executed(toy_run, toy):
    model = Pushed()
    make_predictions(RunFolder(toy_run), toy, Holder(model), Reporter(quiet=True))
    index = json.loads((toy_run / "videos" / "predictions.json").read_text())
    assert set(index) == set(model.told) == set(TASKS)
    for task, told in model.told.items():
        now = index[task]["now"]
        executed = np.load(toy_run / "trajectories" / "trained" / f"{task}-1.npy")[now : now + 4]
        assert told.shape == (1, 6, 2) and np.array_equal(told[0, :4], executed) and told[0, 4:].isnan().all()


def test_episodes_shorter_than_the_prediction_are_left_out(toy_run, toy, capsys):
    model = Pushed()
    model.clip_offsets = (50,)
    make_predictions(RunFolder(toy_run), toy, Holder(model), Reporter())
    assert model.told == {} and "ended before the first predicted frame" in capsys.readouterr().err
    assert not (toy_run / "videos" / "red-prediction.png").exists()


def test_a_policy_that_cannot_predict_gets_nothing(toy_run, toy):
    make_predictions(RunFolder(toy_run), toy, Holder(torch.nn.Linear(1, 1)), Reporter(quiet=True))
    assert not (toy_run / "videos").exists()


def test_psnr_is_the_textbooks():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black + 255, black) == pytest.approx(0.0)
    assert psnr(black + 1, black) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(black, black) == float("inf")
