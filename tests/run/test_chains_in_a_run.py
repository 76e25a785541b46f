"""A run on chains of sub-tasks, from demonstrations to the page: sentences, sub-tasks and where the time went."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.outcomes.records import EpisodeLog
from videopolicy.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("chains")
    recipe = linear("episodes: 3, execute: 3, workers: 2, batch_size: 2", tasks="red")
    (folder / "chains.yaml").write_text(recipe.replace("max_steps: 12", "max_steps: 12, chain: 2, rephrased: true"))
    done = vpolicy(folder, "run", "chains.yaml", VPOLICY_HOME=str(folder / "home"))
    assert done.returncode == 0, done.stderr
    return done, RunFolder(folder / "runs" / "chains"), folder / "home"


def test_records_and_page_have_the_sentences(ran):
    _, run, _ = ran
    records = sorted(EpisodeLog(run.episodes_file).read(), key=lambda record: record.episode)
    assert [record.instruction for record in records[1:]] == ["go to where it is red", "the red square is the goal"]
    assert all(1 <= len(record.subtasks) <= 2 for record in records)
    assert all(sum(one.steps for one in record.subtasks) == record.steps for record in records)
    page = run.report_file.read_text(encoding="utf-8")
    shown = next(record for record in records if not record.success)
    first = shown.subtasks[0]
    outcome = "solved" if first.success else "not solved"
    assert f"{first.instruction} ({outcome} in {first.steps} steps)" in page
    assert "of the workers' time: simulation" in page


def test_the_end_of_an_evaluation_says_where_the_time_went(ran):
    done, run, _ = ran
    assert "steps a second, of the workers' time: simulation " in " ".join((done.stdout + done.stderr).split())
    provenance = run.provenance()
    assert provenance is not None and provenance.evaluation is not None
    facts = provenance.evaluation
    assert facts.steps_per_second is not None and facts.steps_per_second > 0
    assert facts.shares is not None and sum(facts.shares.model_dump().values()) == pytest.approx(1)


def test_demonstrations_keep_the_sentence_of_their_episode(ran):
    import h5py

    _, _, home = ran
    said = set()
    for path in Path(home).rglob("*.hdf5"):
        with h5py.File(path) as file:
            said |= {str(demo.attrs["ep_meta"]) for demo in file["data"].values()}
    assert any("go to where it is red" in one for one in said) and len(said) == 3
