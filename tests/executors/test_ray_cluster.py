"""Two Ray nodes on this machine; a stage, the driver and a node are killed in the middle of their work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.executors.choosing import executor_from
from videopolicy.executors.cluster import ExecutionError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
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


def lines(folder: Path) -> list[dict]:
    """The raw lines of the log, without wall times: an episode that was written twice is there twice."""
    path = folder / "episodes.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for record in found:
        del record["seconds"]
    return sorted(found, key=lambda record: (record["policy"], record["task"], record["episode"]))


def trajectories(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("trajectories/*/*.npy")}


def test_whatever_is_killed_changes_nothing(cluster, tmp_path, monkeypatch):
    nodes, second = cluster
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    store, quiet = Store(tmp_path / "home"), Reporter(quiet=True)
    whole = run(load_recipe(path, ["name=whole"]), tmp_path / "runs", quiet, store)
    other = Store(tmp_path / "other")
    shutil.copytree(store.root / "datasets", other.root / "datasets")
    cut = tmp_path / "runs" / "cut"

    # A driver of its own. The process of the stage is killed while it trains, then the driver while it evaluates.
    command = [sys.executable, "-m", "videopolicy", "run", str(path), "name=cut", "--executor", "ray"]
    command += ["--address", nodes.address, "--shards", "8"]
    with (tmp_path / "output.txt").open("w") as output:
        variables = {**os.environ, "VPOLICY_HOME": str(other.root)}
        driver = subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT)
    said = lambda: (tmp_path / "output.txt").read_text()[-3000:]  # noqa: E731
    _await(lambda: list(other.root.glob("stages/*/.begun")), driver, said)
    for one in _at_work(nodes):
        one.kill()
    _await(lambda: len(lines(cut)) >= 2, driver, said)
    driver.kill()
    driver.wait()
    before = len(lines(cut))
    assert 2 <= before < 16, said()
    weights = [next(one.root.glob("stages/*/weights.safetensors")).read_bytes() for one in (store, other)]
    assert weights[0] == weights[1]

    executor = executor_from("ray", shards=8, address=nodes.address)
    outcomes, killed = executor.map, []

    def kill_in_the_middle(units, reporter):
        for number, outcome in enumerate(outcomes(units, reporter)):
            if units[0].title.startswith("evaluate") and number == 1:
                killed.append(_kill_at_work(nodes, second))
            yield outcome

    executor.map = kill_in_the_middle
    assert run(load_recipe(path, ["name=cut"]), tmp_path / "runs", quiet, other, executor) == cut
    assert killed == [True]
    assert len(lines(cut)) == 16
    assert lines(cut) == lines(whole)
    assert trajectories(cut) == trajectories(whole) and len(trajectories(cut)) == 8
    logs = [log.read_text() for log in (cut / "logs" / "units").glob("*.log")]
    assert 0 < len(logs) <= 8 and all(log.startswith("evaluate ") for log in logs)


def _await(reached, driver, said) -> None:
    deadline = time.monotonic() + 200
    while not reached():
        assert driver.poll() is None and time.monotonic() < deadline, said()
        time.sleep(0.005)


def _at_work(nodes) -> list[psutil.Process]:
    """Processes of the cluster that carry out a unit."""
    raylets = [
        psutil.Process(one.process.pid)
        for node in nodes.list_all_nodes()
        for kind, ones in node.all_processes.items()
        if kind == "raylet"
        for one in ones
    ]
    family = [one for raylet in raylets for one in raylet.children(recursive=True)]
    return [one for one in family if "perform" in one.name() or "ray::perform" in " ".join(one.cmdline())]


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
    with pytest.raises(ExecutionError, match="A unit needs 1 GPUs, and no node of the Ray cluster has more than 0"):
        list(executor.map([], Reporter(quiet=True)))


def test_no_cluster_is_one_message():
    import ray

    ray.shutdown()
    with pytest.raises(ExecutionError, match=r"No Ray cluster can be reached at '127\.0\.0\.1:1'") as caught:
        list(executor_from("ray", address="127.0.0.1:1").map([], Reporter(quiet=True)))
    assert "ray start --head" in caught.value.hint
