"""Sentences from the simulator: one for every episode, or another one wherever a sub-task of a chain begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rollouts import play

from videopolicy import Observation, Policy, RowGenerator, Window
from videopolicy.contracts.benchmark import Task
from videopolicy.evaluation.subtasks import Chain
from videopolicy.outcomes.records import EpisodeRecord, SubtaskRecord
from videopolicy.simulators.answers import Agreement, AnswerError
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_simulator import COLORS, SPEED, ToySimulator

TASK = Task(name="red", instruction="go to red", max_steps=60)


class Goes(Policy):
    """Moves the dot to the square whose colour the sentence names, as far as it sees it; notes what it was given."""

    def __init__(self, blind_to: str = "", past: int = 0, frames: int = 1) -> None:
        super().__init__()
        self.blind_to, self.past, self.frames = blind_to, past, frames
        self.given: list[tuple[str, torch.Tensor, torch.Tensor | None]] = []
        self.resets: list[list[int]] = []

    @property
    def window(self) -> Window:
        return Window(tuple(range(1 - self.frames, 1)), horizon=4, past_actions=self.past)

    def loss(self, batch):
        raise NotImplementedError

    def reset(self, rows):
        self.resets.append(rows)

    def act(self, observation: Observation, generator: RowGenerator) -> torch.Tensor:
        assert observation.state is not None
        past = observation.past_actions
        self.given.append((observation.instructions[0], observation.state[0], None if past is None else past[0]))
        return torch.stack([self._towards(observation, row) for row in range(len(observation))])

    def _towards(self, observation: Observation, row: int) -> torch.Tensor:
        (name,) = [colour for colour in COLORS if colour in observation.instructions[row]]
        if name == self.blind_to:
            return torch.zeros(4, 2)
        picture = observation.images["top"][row, -1].float()
        here = (picture - torch.tensor(COLORS[name]).float()[:, None, None]).abs().sum(0) < 1
        if not here.any():
            return torch.zeros(4, 2)
        y, x = (axis.float().mean() for axis in torch.where(here))
        step = (torch.stack([x, y]) + 0.5) / picture.shape[-1] - observation.state[row, -1]
        return (step / SPEED).clamp(-1, 1)[None].repeat(4, 1)


def test_every_episode_has_the_sentence_that_its_simulator_says(tmp_path):
    policy = Goes()
    records, _ = play(tmp_path, policy, ToyBenchmark(task_names=("red",), rephrased=True), episodes=4)
    said = ["move the dot to the red square", "go to where it is red", "the red square is the goal"]
    assert [record.instruction for record in records] == [*said, said[0]]
    assert list(dict.fromkeys(sentence for sentence, *_ in policy.given)) == said
    assert all(record.success and record.subtasks == () for record in records)


def test_the_benchmarks_sentence_serves_where_the_simulator_says_none(tmp_path):
    (record,), _ = play(tmp_path, Goes(), ToyBenchmark(task_names=("blue",)), episodes=1)
    assert record.instruction == "move the dot to the blue square"


def test_a_chain_goes_on_in_the_same_scene_and_the_policy_begins_anew(tmp_path):
    policy = Goes(past=2, frames=2)
    toy = ToyBenchmark(task_names=("red",), chain=3)
    (record,), trajectories = play(tmp_path, policy, toy, episodes=1, execute=4)
    assert record.success and record.score == 3.0 and record.instruction == "move the dot to the red square"
    assert [(one.name, one.success) for one in record.subtasks] == [("red", True), ("green", True), ("blue", True)]
    assert [one.instruction.split()[-2] for one in record.subtasks] == ["red", "green", "blue"]
    assert sum(one.steps for one in record.subtasks) == record.steps == len(trajectories["red-0"])
    assert any(one.steps % 4 for one in record.subtasks[:2])  # a chunk ended where its sub-task did
    assert policy.resets == [[0], [0], [0]]
    firsts = [i for i, one in enumerate(policy.given) if i == 0 or policy.given[i - 1][0] != one[0]]
    assert len(firsts) == 3
    for index in firsts:
        _, state, past = policy.given[index]
        assert torch.equal(state[0], state[1]) and past is not None and past.isnan().all()
    end_of_red = policy.given[firsts[1]][1][-1]
    simulator = ToySimulator(chain=3)
    simulator.reset("red", 0)
    simulator.step(trajectories["red-0"][: record.subtasks[0].steps], [])
    assert np.allclose(simulator.dot, end_of_red, atol=1e-6)  # the scene was not put back


def test_a_sub_task_has_a_limit_of_its_own_and_its_failure_ends_the_episode(tmp_path):
    toy = ToyBenchmark(task_names=("red",), chain=3, max_steps=25)
    (record,), _ = play(tmp_path, Goes(blind_to="green"), toy, episodes=1, execute=4)
    assert not record.success and record.score == 1.0
    assert [(one.name, one.success) for one in record.subtasks] == [("red", True), ("green", False)]
    assert record.subtasks[1].steps == 25 and record.steps == record.subtasks[0].steps + 25


def test_chains_end_alike_whatever_shares_their_batch(tmp_path):
    toy = ToyBenchmark(task_names=("red", "blue"), chain=2)
    one, moves = play(tmp_path / "one", Goes(), toy, episodes=3, workers=1, batch_size=4)
    many, same = play(tmp_path / "many", Goes(), toy, episodes=3, workers=3, batch_size=4)
    assert [r.model_dump(exclude={"seconds"}) for r in one] == [r.model_dump(exclude={"seconds"}) for r in many]
    assert moves.keys() == same.keys() and all(np.array_equal(moves[name], same[name]) for name in moves)


def test_a_record_says_the_sentence_of_every_step():
    subtasks = [SubtaskRecord(name=n, instruction=f"go {n}", steps=s, success=True) for n, s in (("a", 3), ("b", 2))]
    facts = {"success": True, "score": 2.0, "steps": 5, "seconds": 1.0, "initial_state": "0", "protocol": "p"}
    record = EpisodeRecord(policy="trained", task="t", episode=0, instruction="go a", subtasks=tuple(subtasks), **facts)
    assert [record.sentence_at(step) for step in (0, 2, 3, 5)] == ["go a", "go a", "go b", "go b"]
    assert [record.begun_at(step) for step in (0, 2, 3, 5)] == [0, 0, 3, 3]
    plain = EpisodeRecord(policy="trained", task="t", episode=0, **facts)
    assert (plain.sentence_at(4), plain.begun_at(4)) == ("", 0)


def step(**keys):
    return {"steps": 2, "success": False, "score": 0.0, "done": False, "observations": {}, **keys}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (step(), "no `solved`"),
        (step(solved=["b"]), "these sub-tasks are solved: b"),
        (step(solved=["a", "b"]), "these sub-tasks are solved: a, b"),
        (step(solved=["a"]), "has solved 'a'"),
    ],
)
def test_chains_that_do_not_add_up_are_errors_of_the_simulator(answer, message):
    error = Chain(TASK, {"subtasks": ["a", "b"]}).check(answer)
    assert error is not None and message in error.message


def test_sub_tasks_beyond_those_named_are_errors():
    chain = Chain(TASK, {"subtasks": ["a", "b"], "instruction": "first"})
    following = step(solved=["a"], instruction="second", observation={})
    assert chain.check(following) is None and chain.take(following) and chain.instruction == "second"
    error = chain.check(step(solved=["a", "b"], instruction="third", observation={}))
    assert error is not None and "after the last one" in error.message
    error = Chain(TASK, {}).check(following)
    assert error is not None and "named no `subtasks`" in error.message


@pytest.mark.parametrize(
    ("method", "keys", "message"),
    [
        ("reset", {"instruction": ""}, "'instruction' is '', not a sentence"),
        ("reset", {"instruction": 3}, "'instruction' is 3"),
        ("reset", {"instruction": "go " * 2000}, "6000 characters"),
        ("reset", {"subtasks": []}, "'subtasks' is a list, not a list of 1 to 100"),
        ("reset", {"subtasks": "red"}, "'subtasks' is 'red'"),
        ("reset", {"subtasks": ["red"] * 101}, "1 to 100 names"),
        ("reset", {"subtasks": ["r" * 201]}, "201 characters"),
        ("reset", {"seconds": {"simulation": -1.0, "rendering": 0.0}}, "'simulation' of 'seconds' is -1.0"),
        ("reset", {"seconds": {"simulation": float("nan"), "rendering": 0.0}}, "'simulation' of 'seconds' is nan"),
        ("reset", {"seconds": {"simulation": 1.0}}, "other keys"),
        ("step", {"solved": [None]}, "a name in 'solved' is None"),
        ("step", {"observation": {"images": {}}}, "the observation after a sub-task has pictures of no camera"),
    ],
)
def test_new_keys_of_answers_are_checked(method, keys, message):
    simulator = ToySimulator()
    arguments = {
        "reset": {"task": "red", "episode": 0},
        "step": {"actions": np.zeros((2, 2), np.float32), "frames": []},
    }
    answer = simulator.reset("red", 0)
    if method == "step":
        answer = simulator.step(**arguments["step"])
    agreement = Agreement(ToyBenchmark().spaces())
    agreement.check(method, arguments[method], answer)
    with pytest.raises(AnswerError, match=message.replace("(", r"\(")):
        agreement.check(method, arguments[method], {**answer, **keys})


def test_an_observation_that_ends_a_sub_task_needs_a_sentence_and_what_is_solved():
    simulator = ToySimulator(chain=2)
    first = simulator.reset("red", 0)["observation"]
    agreement, arguments = Agreement(ToyBenchmark().spaces()), {"actions": np.zeros((5, 2), np.float32), "frames": []}
    answer = step(observation=first, instruction="go on", solved=["red"])
    agreement.check("step", arguments, answer)
    for name in ("instruction", "solved"):
        with pytest.raises(AnswerError, match=f"'{name}' is missing"):
            agreement.check("step", arguments, {key: value for key, value in answer.items() if key != name})
