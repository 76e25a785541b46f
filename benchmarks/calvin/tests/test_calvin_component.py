"""Tasks, spaces, protocols, sentences and published numbers of CALVIN, without its simulator."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from vpolicy_calvin.components import Calvin, sentences, training_sentences

from videopolicy.testing import BenchmarkContract


class TestCalvin(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Calvin(preset="D_D", cameras=("rgb_gripper",))


def test_a_chain_takes_five_of_thirty_four_tasks():
    (chain,) = Calvin().tasks()
    subtasks = {task.name: task for task in Calvin().subtasks()}
    assert len(subtasks) == len({task.instruction for task in subtasks.values()}) == 34
    assert {task.max_steps for task in subtasks.values()} == {360} and chain.max_steps == 5 * 360
    assert subtasks["turn_on_lightbulb"].instruction == "use the switch to turn on the light bulb"
    assert subtasks["push_into_drawer"].instruction == "slide the block that it falls into the drawer"


def test_presets_share_no_fingerprint_and_all_are_evaluated_on_table_d():
    protocols = [Calvin(preset=name).protocol() for name in ("ABC_D", "ABCD_D", "D_D")]
    assert [protocol["trained_on"] for protocol in protocols] == [["A", "B", "C"], ["A", "B", "C", "D"], ["D"]]
    assert {protocol["evaluated_on"] for protocol in protocols} == {"D"}
    assert Calvin(cameras=("rgb_static",)).protocol() != protocols[0]


def test_spaces_are_those_of_the_recorded_demonstrations():
    spaces = Calvin().spaces()
    assert [(c.name, c.height, c.width) for c in spaces.cameras] == [("rgb_static", 200, 200), ("rgb_gripper", 84, 84)]
    assert (spaces.actions.dim, spaces.actions.gripper, spaces.actions.rate) == (7, "positive_opens", 30.0)
    assert spaces.state.dim == 15 and spaces.state.names[-1] == "gripper_action"


def test_an_episode_is_a_chain_and_its_score_the_tasks_solved_in_a_row():
    assert Calvin.ordinal == "chain length"
    records = [{"score": float(solved), "success": solved == 5} for solved in (5, 3, 1, 0)]
    assert Calvin().metrics(records) == {
        "success after 1 task": 0.75,
        "success after 2 tasks": 0.5,
        "success after 3 tasks": 0.5,
        "success after 4 tasks": 0.25,
        "success after 5 tasks": 0.25,
        "average chain length": 2.25,
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("preset", "ABC", "'ABC_D', 'ABCD_D' or 'D_D'"),
        ("cameras", ["rgb_tactile"], "'rgb_static' or 'rgb_gripper'"),
        ("cameras", ["rgb_static", "rgb_static"], "a camera is named more than once"),
        ("cameras", [], "at least 1 item"),
        ("rendering", "gpu", "'egl' or 'tiny'"),
        ("task_names", ["open_draw"], "Did you mean 'open_drawer'?"),
        ("task_names", ["stack_block"], "no official chain has these tasks alone"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        Calvin.model_validate({field: value})
    assert message in str(caught.value)


def test_wordings_of_demonstrations_are_none_that_is_evaluated():
    taught = training_sentences()
    assert taught.keys() == sentences().keys() and sum(map(len, taught.values())) == 389
    assert not set(sentences().values()) & {wording for wordings in taught.values() for wording in wordings}
    assert "slide right the pink block" in taught["push_pink_block_right"]
    assert "move down the switch" in taught["turn_off_lightbulb"] and len(taught["turn_off_led"]) == 14


def test_demonstrations_are_of_single_tasks_on_the_presets_tables_and_by_the_experts():
    collected = Calvin(preset="ABC_D").demonstrating()
    assert len(collected.tasks()) == 34 and collected.stored_states() is None
    assert collected.launch().config["tables"] == ["A", "B", "C"]
    few = Calvin(preset="D_D", task_names=("open_drawer", "lift_red_block_slider", "turn_on_led"), evaluate="tasks")
    assert [task.name for task in few.demonstrating().tasks()] == list(few.task_names)


def test_chains_can_be_chosen_by_their_tasks():
    names = [
        name for name in sentences() if not (name.startswith(("lift", "place", "push_into")) and "table" not in name)
    ]
    chosen = Calvin(task_names=tuple(name for name in names if "stack" not in name))
    assert Calvin().stored_states() == 1000 and chosen.stored_states() == 88
    assert chosen.protocol() != Calvin().protocol() and chosen.launch().config["within"]


def test_the_renderer_and_what_is_evaluated_are_part_of_the_protocol():
    said = [Calvin(), Calvin(rendering="tiny"), Calvin(evaluate="tasks")]
    assert len({str(one.protocol()) for one in said}) == 3
    assert Calvin(evaluate="tasks").published() == Calvin(max_steps=20).published() == ()


def test_the_papers_tables_agree_where_they_overlap():
    numbers = Calvin().published()
    vpp = {n.source: n.value for n in numbers if n.metric == "average chain length" and n.method in ("VPP", "VDM")}
    assert {source.rpartition(" ")[2] for source in vpp} == {"1", "3", "4", "10", "12"} and set(vpp.values()) == {4.33}
    by_count = {n.group: n.value for n in numbers if n.metric == "success" and n.method == "VPP"}
    assert list(by_count.values()) == [0.965, 0.909, 0.866, 0.820, 0.769]
    assert {n.method for n in numbers if n.kind == "main"} >= {"VPP", "GR-1"}
    assert {n.source.rpartition("Table ")[2] for n in numbers if n.kind == "main"} == {"1"}
    others = {n.source.rpartition("Table ")[2].split(",")[0] for n in numbers if n.kind == "elsewhere"}
    assert others == {"5", "6", "7", "8", "9"}
