from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError
from vpolicy_metaworld.components import CAMERAS, MetaWorld


def test_fifty_tasks_in_the_papers_groups_with_a_sentence_each():
    tasks = MetaWorld().tasks()
    assert Counter(task.tier for task in tasks) == {"easy": 28, "middle": 11, "hard": 11}
    assert len({task.name for task in tasks}) == len({task.instruction for task in tasks}) == 50


def test_tasks_and_tiers_can_be_mixed_and_keep_their_order():
    tasks = MetaWorld(task_names=("reach-v3", "very_hard", "sweep-v3")).tasks()
    assert [task.name for task in tasks][:2] == ["reach-v3", "shelf-place-v3"]
    assert len(tasks) == 7 and tasks[-1].name == "sweep-v3"
    assert {task.tier for task in tasks} == {"easy", "hard", "middle"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_names", ["drawer-close-v2"], "Did you mean 'drawer-close-v3'?"),
        ("task_names", ["medum"], "Did you mean 'medium'?"),
        ("task_names", ["easy", "reach-v3"], "named more than once: reach-v3"),
        ("task_names", [], "at least 1"),
        ("cameras", ["corner5"], "It has topview, corner"),
        ("cameras", ["corner", "corner"], "a camera is named more than once"),
        ("max_steps", 501, "less than or equal to 500"),
        ("rendering", "quick", "'stock' or 'fast'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        MetaWorld.model_validate({field: value})
    assert message in str(caught.value)


def test_published_means_are_the_weighted_means_of_their_groups():
    values = {(number.method, number.group): number.value for number in MetaWorld().published()}
    methods = {method for method, _ in values}
    assert len(values) == 20 and values["VPP", "mean"] == 0.682
    for method in methods:
        mean = (28 * values[method, "easy"] + 11 * values[method, "middle"] + 11 * values[method, "hard"]) / 50
        # RT-1's and Diffusion Policy's own rows deviate by up to 0.006 in the paper.
        assert mean == pytest.approx(values[method, "mean"], abs=0.0065), method


def test_the_protocol_tells_apart_what_changes_results_and_nothing_else():
    base = MetaWorld(image_size=64, rendering="fast")
    for change in ({"image_size": 128}, {"rendering": "stock"}, {"cameras": ("corner2",)}, {"max_steps": 200}):
        assert base.model_copy(update=change).protocol() != base.protocol()
    assert base.model_copy(update={"task_names": ("easy",)}).protocol() == base.protocol()


def test_the_closeup_is_for_people():
    closeup = MetaWorld(image_size=64, rendering="fast", cameras=("gripperPOV",), max_steps=200).closeup()
    assert closeup.rendering == "stock" and closeup.image_size >= 256 and closeup.max_steps == 200
    assert set(CAMERAS) > set(closeup.cameras)
