"""The episode log under kills and damage, and the sums."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from videopolicy import BenchmarkComponent, Task
from videopolicy.errors import StorageError
from videopolicy.outcomes.intervals import wilson
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord, summarise


def episode(number: int, policy="trained", task="push", success=True, **values) -> EpisodeRecord:
    fields = {"score": float(success), "steps": 40, "seconds": 1.5, "initial_state": f"s{number}", "protocol": "p"}
    return EpisodeRecord(policy=policy, task=task, episode=number, success=success, **(fields | values))


class TwoTiers(BenchmarkComponent):
    """Three tasks in two tiers."""

    type: Literal["two-tiers"] = "two-tiers"

    def tasks(self):
        names = {"pull": "hard", "push": "easy", "lift": "hard"}
        return tuple(Task(name=name, instruction=name, max_steps=9, tier=tier) for name, tier in names.items())

    def metrics(self, records):
        return {"mean steps": sum(record["steps"] for record in records) / len(records)}


@pytest.fixture
def log(tmp_path):
    return EpisodeLog(tmp_path / "run" / "episodes.jsonl")


def test_what_was_appended_is_read_back(log):
    records = [episode(0), episode(1, success=False, error="the simulator died: é\n2nd line")]
    for record in records:
        log.append(record)
    assert log.read() == records
    assert log.done == {("trained", "push", 0), ("trained", "push", 1)}
    assert set(json.loads(log.path.read_text().splitlines()[0])) == set(EpisodeRecord.model_fields)


def test_an_absent_log_is_empty(log):
    assert log.read() == [] and log.done == set()


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(log, kept):
    log.append(episode(0))
    whole = log.path.read_bytes()
    log.append(episode(1))
    line = log.path.read_bytes()[len(whole) :]
    log.path.write_bytes(whole + line[:kept])
    assert log.contents().records == [episode(0)]
    assert log.contents().problems == []
    log.append(episode(1))
    assert log.path.read_bytes() == whole + line


def test_a_torn_first_line_longer_than_a_block_is_repaired(log):
    log.path.parent.mkdir()
    log.path.write_bytes(b'{"policy": "' + b"x" * 10_000)
    log.append(episode(0))
    assert log.contents().records == [episode(0)] and log.contents().problems == []


def test_damaged_lines_are_skipped_and_named_by_file_and_line(log):
    for number in range(4):
        log.append(episode(number))
    lines = log.path.read_text().splitlines()
    lines[1] = lines[1][:30]
    lines[2] = lines[2].replace('"episode":2', '"episode":"two"')
    log.path.write_text("\n".join(lines) + "\n")
    contents = log.contents()
    assert [record.episode for record in contents.records] == [0, 3]
    assert contents.problems[0].startswith(f"{log.path}:2: not an episode record")
    assert contents.problems[1].startswith(f"{log.path}:3: not an episode record") and "episode" in contents.problems[1]


def test_a_repeated_episode_counts_once_and_is_named(log):
    log.append(episode(0))
    log.append(episode(0, success=False))
    log.append(episode(0, policy="random"))
    contents = log.contents()
    assert contents.records == [episode(0), episode(0, policy="random")]
    assert contents.problems == [f"{log.path}:2: repeats trained push episode 0 of line 1, skipped"]
    assert summarise([episode(0), episode(0, success=False)])["trained"].mean.episodes == 1


def test_an_error_is_replaced_by_the_next_try_and_a_failure_never(log):
    log.append(episode(0))
    log.append(episode(1, success=False, steps=0, error="the simulator died"))
    log.append(episode(2, success=False))
    with log.path.open("a") as file:
        file.write("no record\n")
    assert log.finished == {("trained", "push", 0), ("trained", "push", 2)}
    log.append(episode(1, success=False, steps=0, error="it died again"))
    assert [record.error for record in log.read()] == [None, None, "it died again"]
    again = EpisodeLog(log.path)
    again.append(episode(1))
    assert again.finished == again.done and len(again.done) == 3
    lines = again.path.read_text().splitlines()
    assert [line[:9] for line in lines] == ['{"policy"', '{"policy"', "no record", '{"policy"']
    assert again.read() == [episode(0), episode(2, success=False), episode(1)]
    assert summarise(again.read())["trained"].mean.errors == 0
    # What was finished stays, whatever comes after it.
    again.append(episode(2, error="the simulator died"))
    assert [record.key[2] for record in again.read() if record.error is None] == [0, 2, 1]


def test_of_several_lines_the_first_finished_one_counts(log):
    """Such as in two logs that somebody has put one behind the other."""
    tries = [
        episode(0, success=False, error="a"),
        episode(0, success=False, error="b"),
        episode(0),
        episode(0, steps=9),
    ]
    log.path.parent.mkdir()
    log.path.write_text("".join(record.model_dump_json() + "\n" for record in tries))
    assert log.contents().records == [episode(0)]
    assert log.contents().problems == [f"{log.path}:4: repeats trained push episode 0 of line 3, skipped"]
    mean = summarise(tries)["trained"].mean
    assert (mean.episodes, mean.errors, mean.value) == (1, 0, 1.0)


def test_a_kill_while_an_error_is_replaced_loses_nothing(log, monkeypatch):
    log.append(episode(0))
    log.append(episode(1, error="the simulator died"))
    before = log.path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        log.append(episode(1))
    assert log.path.read_bytes() == before


def test_a_log_that_cannot_be_written_says_which(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/episodes\.jsonl") as caught:
        EpisodeLog(tmp_path / "file" / "episodes.jsonl").append(episode(0))
    assert "run the same command again" in caught.value.hint


def test_tasks_weigh_the_same_and_errors_are_counted_apart():
    records = [episode(n, task="push", success=n < 8) for n in range(10)]
    records += [episode(n, task="pull", success=n < 1) for n in range(2)]
    records += [episode(n, task="pull", success=False, error="hung") for n in range(2, 5)]
    records += [episode(n, task="push", policy="random", success=False) for n in range(10)]
    summary = summarise(records, TwoTiers())
    assert list(summary) == ["trained", "random"]
    trained = summary["trained"]
    assert [rate.name for rate in trained.tasks] == ["pull", "push", "lift"]
    pull, push, lift = trained.tasks
    assert (pull.value, pull.successes, pull.episodes, pull.errors) == (0.5, 1, 2, 3)
    assert (push.value, push.interval) == (0.8, wilson(8, 10))
    assert (lift.value, lift.episodes, lift.interval) == (None, 0, (0.0, 1.0))
    assert trained.mean.value == pytest.approx(0.65)
    assert (trained.mean.episodes, trained.mean.errors, trained.mean.tasks) == (12, 3, 2)
    assert trained.mean.missing == ("lift",)
    assert trained.mean.interval.low < 0.65 < trained.mean.interval.high
    assert [(tier.name, tier.value, tier.missing) for tier in trained.tiers] == [
        ("hard", 0.5, ("lift",)),
        ("easy", 0.8, ()),
    ]
    assert summary["random"].mean.value == 0.0
    assert trained.mean.metrics == {"mean steps": 40.0}


def test_tasks_outside_the_benchmark_are_left_out():
    records = [episode(0, task="push"), episode(0, task="of an older recipe", success=False)]
    assert summarise(records, TwoTiers())["trained"].mean.value == 1.0
    assert summarise(records)["trained"].mean.value == 0.5
