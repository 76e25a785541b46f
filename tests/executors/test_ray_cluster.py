"""Two Ray nodes on this machine, one of them killed in the middle of an evaluation."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.executors.choosing import executor_from
from videopolicy.executors.cluster import ExecutionError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.results.records import EpisodeLog
from videopolicy.run import run
from videopolicy.storage.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("ray", reason="the extra 'ray' is not installed")

RECIPE = linear("episodes: 4, execute: 3, workers: 1, batch_size: 2, baselines: [random]")


@pytest.fixture(scope="module")
def cluster():
    """A head and a second node, each with one processor and a small store of objects."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (that is how Ray writes it)
    os.environ["RAY_agent_register_timeout_ms"] = "300000"  # noqa: SIM112 (that is how Ray writes it)
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000, "include_log_monitor": False}
    cluster = Cluster()
    _patiently(cluster, include_dashboard=False, **node)
    second = _patiently(cluster, **node)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def _patiently(cluster, **options):
    """Add a node. Ray gives its processes half a minute to start, which a busy machine may not have for them."""
    for left in (2, 1, 0):
        try:
            return cluster.add_node(**options)
        except Exception:
            if not left:
                raise
    return None


def records(folder: Path) -> list[dict]:
    found = [record.model_dump(exclude={"seconds"}) for record in EpisodeLog(folder / "episodes.jsonl").read()]
    return sorted(found, key=lambda record: (record["policy"], record["task"], record["episode"]))


def test_a_killed_node_changes_nothing(cluster, tmp_path, monkeypatch):
    nodes, second = cluster
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    store, quiet = Store(tmp_path / "home"), Reporter(quiet=True)
    whole = run(load_recipe(path, ["name=whole"]), tmp_path / "runs", quiet, store)

    executor = executor_from("ray", shards=8, address=nodes.address)
    outcomes, killed = executor.map, []

    def kill_in_the_middle(units, reporter):
        for number, outcome in enumerate(outcomes(units, reporter)):
            if units[0].title.startswith("evaluate") and number == 2:
                killed.append(_kill_at_work(nodes, second))
            yield outcome

    executor.map = kill_in_the_middle
    cut = run(load_recipe(path, ["name=cut"]), tmp_path / "runs", quiet, store, executor)
    assert killed == [True]
    assert len(records(cut)) == 16
    assert records(cut) == records(whole)
    logs = [log.read_text() for log in (cut / "logs" / "units").glob("*.log")]
    assert len(logs) == 8 and all(log.startswith("evaluate ") for log in logs)


def _kill_at_work(nodes, second) -> bool:
    """Kill a node as a power failure would, while one of its processes carries out a unit.

    Returns:
        Whether it was at work.
    """
    raylet = next(one for kind, ones in second.all_processes.items() if kind == "raylet" for one in ones)
    family = psutil.Process(raylet.process.pid).children(recursive=True)
    deadline = time.monotonic() + 60
    while not (busy := any("perform" in one.name() or "ray::perform" in " ".join(one.cmdline()) for one in family)):
        assert time.monotonic() < deadline, [one.cmdline()[:1] for one in family]
        time.sleep(0.01)
        family = psutil.Process(raylet.process.pid).children(recursive=True)
    nodes.remove_node(second, allow_graceful=False)
    for one in family:
        if one.is_running():
            one.kill()
    return busy


def test_more_gpus_than_any_node_has_are_refused(cluster):
    executor = executor_from("ray", address=cluster[0].address, gpus_per_unit=1)
    with pytest.raises(ExecutionError, match="A unit wants 1 GPUs, and no node of the Ray cluster has more than 0"):
        list(executor.map([], Reporter(quiet=True)))


def test_no_cluster_is_one_message():
    import ray

    ray.shutdown()
    with pytest.raises(ExecutionError, match=r"No Ray cluster can be reached at '127\.0\.0\.1:1'") as caught:
        list(executor_from("ray", address="127.0.0.1:1").map([], Reporter(quiet=True)))
    assert "ray start --head" in caught.value.hint
