"""What the terminal and the page say about whole, unfinished and damaged run folders."""

from __future__ import annotations

import io
import json
import re

import pytest

from videopolicy.cli.show import renderables, show
from videopolicy.console.terminal import Terminal
from videopolicy.errors import VpolicyError
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.report.contents import read_run
from videopolicy.report.page import write_report
from videopolicy.storage.provenance import RunIdentity, SimulatorFacts
from videopolicy.storage.run_folder import RunFolder


def printed(run) -> str:
    console = Terminal(file=io.StringIO(), width=80)
    for part in renderables(run):
        console.print(part)
    return console.file.getvalue()


def test_show_fits_80_columns_and_gives_every_rate_its_interval_and_number(made_up_run, tabletop):
    text = printed(read_run(made_up_run, tabletop))
    assert max(len(line) for line in text.splitlines()) <= 80
    row = next(line for line in text.splitlines() if line.startswith("button-press-topdown-v3"))
    assert row.split() == ["button-press-topdown-v3", "90", "[70-97]", "20", "0", "[0-16]", "20", "0", "[0-16]", "20"]
    assert re.search(r"mean of all tasks +93\.6 \[86-97\] 79 +0 \[0-5\] 80 +1\.2 \[0-6\] 80", text)
    assert re.search(r"video +policy\.extractor\.backbone +1500 +3 min 04 s +video 0\.0931", text)
    assert text.index("not measured here") < text.index("68.2")
    assert "Over all 50 tasks" in text
    assert "Simulator errors, in no number: trained door-open-v3 1" in text
    assert "Missing" not in text


def test_a_number_that_only_some_policies_have_is_left_blank_for_the_others(made_up_run, tabletop):
    run = read_run(made_up_run, tabletop)
    run.summaries["random"].mean.metrics["steps to success"] = 12.5
    row = next(line for line in printed(run).splitlines() if line.startswith("steps to success"))
    assert row.split() == ["steps", "to", "success", "12.5"]


def test_show_names_what_is_missing_and_what_is_damaged(made_up_run, tabletop):
    (made_up_run / "provenance.json").write_text('{"name": "cut sh')
    log = made_up_run / "episodes.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:10], "{broken", *lines[10:25]]) + "\n")
    with (made_up_run / "train.csv").open("a") as file:
        file.write("policy,2510,loss/act")
    text = " ".join(printed(read_run(made_up_run, tabletop)).split())
    for expected in (
        "Missing: stage 'video' has not finished",
        "Missing: policy 'trained' has run 25 of 80 episodes",
        "Missing: policy 'random' has not been evaluated",
        "episodes.jsonl:11: not an episode record",
        "provenance.json: ",
        "train.csv:652: not a row",
    ):
        assert expected.replace(" ", "") in text.replace(" ", "")


def test_what_is_said_of_data_and_stages_is_shown_by_both(made_up_run, tabletop):
    scripted, precision = "40 of 40 episodes are demonstrations of a <scripted> expert", "in 32-true, not 16-mixed"
    provenance = json.loads((made_up_run / "provenance.json").read_text())
    provenance["data_remarks"] = [scripted]
    provenance["stages"][0]["remarks"] = [precision]
    (made_up_run / "provenance.json").write_text(json.dumps(provenance))
    text = printed(read_run(made_up_run, tabletop))
    assert f"data: {scripted}" in text and f"video: {precision}" in text
    page = write_report(made_up_run, tabletop).read_text()
    assert "<dt>Data</dt><dd>40 of 40 episodes are demonstrations of a &lt;scripted&gt; expert</dd>" in page
    assert f"video: {precision}" in page[page.index('id="training"') : page.index('id="run"')]


def test_curves_keep_the_last_of_repeated_steps(made_up_run, tabletop):
    with (made_up_run / "train.csv").open("a") as file:
        file.write("video,500,loss/video,0.5,61\n")
    curve = read_run(made_up_run, tabletop).curves["video"]["video"]
    assert len(curve) == 150 and dict(curve)[500] == 0.5


def test_a_folder_that_is_no_run_names_the_runs_there_are(made_up_run):
    with pytest.raises(VpolicyError, match="There is no run folder") as caught:
        show(made_up_run.parent / "quickstart")
    assert "made-up" in caught.value.hint


def test_a_recipe_whose_plugin_is_missing_still_shows_its_results(made_up_run):
    run = read_run(made_up_run)
    assert run.benchmark is None
    assert run.summaries["trained"].mean.episodes == 79
    assert any("cannot be used here" in problem for problem in run.problems)
    assert "93.6" in write_report(made_up_run).read_text()


def test_the_page_escapes_what_it_is_given(made_up_run, tabletop):
    log = EpisodeLog(made_up_run / "episodes.jsonl")
    record = log.read()[0].model_copy(update={"episode": 99, "error": "<script>alert('x')</script>"})
    log.append(record)
    page = write_report(made_up_run, tabletop).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "absent", ["recipe.yaml", "provenance.json", "train.csv", "episodes.jsonl", "videos/videos.json"]
)
def test_the_page_is_written_whatever_is_missing(made_up_run, tabletop, absent):
    (made_up_run / absent).unlink()
    page = write_report(made_up_run, tabletop).read_text()
    assert page.rstrip().endswith("</html>")
    assert "Undefined" not in page and ">None<" not in page
    links = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page)
    assert links == []


def test_episodes_of_two_protocols_are_not_passed_off_as_one_result(made_up_run, tabletop):
    log = EpisodeLog(made_up_run / "episodes.jsonl")
    log.append(log.read()[0].model_copy(update={"episode": 99, "protocol": "another"}))
    assert "recorded under different protocols" in write_report(made_up_run, tabletop).read_text()


def test_the_protocol_is_the_one_of_the_simulator_that_ran(made_up_run, tabletop):
    assert "rendering fast; steps 200</dd>" in write_report(made_up_run, tabletop).read_text()
    simulator = SimulatorFacts(versions={"mujoco": "3.3.2"}, rendering="EGL, llvmpipe")
    recorded = RunIdentity(protocol={"rendering": "stock"}, simulator=simulator)
    RunFolder(made_up_run).write_identity(recorded)
    page = write_report(made_up_run, tabletop).read_text()
    assert "rendering stock; simulator_versions" in page and '"mujoco": "3.3.2"' in page
    assert "simulator_rendering EGL, llvmpipe</dd>" in page


def test_episodes_that_began_differently_are_counted(made_up_run, tabletop):
    page = write_report(made_up_run, tabletop).read_text()
    assert "in the same initial states, by their hash" in page
    log = made_up_run / "episodes.jsonl"
    log.write_text(log.read_text().replace("door-open-v3-4", "elsewhere", 1))
    assert "1&nbsp;episode in different initial states" in write_report(made_up_run, tabletop).read_text()


def test_numbers_of_other_robots_are_folded_away_on_the_page_and_counted_in_the_terminal(made_up_run, tabletop):
    own = tabletop.published()
    real = own[0].model_copy(
        update={"metric": "success on a real robot", "source": "Made-up et al. 2025, table 3", "kind": "elsewhere"}
    )

    class WithRobot(type(tabletop)):
        def published(self):
            return (*own, real)

    benchmark = WithRobot(**tabletop.model_dump())
    text = printed(read_run(made_up_run, benchmark))
    assert "1 more table of other robots, data and machines" in text and "real robot" not in text
    assert "other robots" not in printed(read_run(made_up_run, tabletop))
    page = write_report(made_up_run, benchmark).read_text()
    main, _, folded = page.partition("<details><summary>Of other robots, data and machines (1 table)")
    assert "table 2" in main and "real robot" not in main and "success on a real robot" in folded
