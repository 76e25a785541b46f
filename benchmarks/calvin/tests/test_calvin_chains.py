"""The official chains and their initial states, without the simulator.

The hashes are of what the publishers' own code (mees/calvin, fa03f01, with pyhash) has computed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import generate_chains
import numpy as np
import pytest
from vpolicy_calvin.components import sentences
from vpolicy_calvin.simulator import chains

SEQUENCES = "bcfd9e9e3af4f0abb9958e86110d52ef7373582f"
STATES = "aa7761dd637dfcd777ceaf95ec1f294b19bef468"


def test_chains_and_initial_states_are_the_official_ones():
    written = [[dict(one.state), list(one.tasks)] for one in chains.chains()]
    assert hashlib.sha1(json.dumps(written).encode()).hexdigest() == SEQUENCES
    states = np.stack([np.concatenate(chains.numbers(one.state)) for one in chains.chains()])
    assert states.shape == (1000, 39) and hashlib.sha1(states.tobytes()).hexdigest() == STATES
    assert len({row.tobytes() for row in states}) == len(chains.initial_states()) == 192


@pytest.mark.parametrize("state", [0, 101, 191])
def test_the_file_holds_what_is_computed(state):
    places = generate_chains.places(chains)
    wanted = [index for index, (of, _) in enumerate(places) if of == state]
    drawn = generate_chains.drawn(chains, state, len(wanted))
    for index in wanted:
        found = chains.chains()[index]
        assert found.state == chains.initial_states()[state]
        assert list(found.tasks) == [chains.NAMES[task] for task in drawn[places[index][1]]]


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("a", 1627429043), ("hello", 3823389454), ("dict_values([0, 'right'])", 633294066)],
)
def test_the_seed_of_a_state_is_pyhashs(text, value):
    assert chains.fnv1(text) == value


def test_every_task_of_a_chain_leads_to_one_state_and_no_two_are_alike():
    for one in chains.chains():
        state = one.state
        for task in one.tasks:
            (state,) = chains.possible(state, task)
        assert len({chains.CATEGORIES[task] for task in one.tasks}) == 5
    counts = Counter(task for one in chains.chains() for task in one.tasks)
    assert counts.keys() == set(chains.NAMES) == set(sentences()) and sum(counts.values()) == 5000


def test_what_tasks_need_and_do():
    state = next(
        one for one in chains.initial_states() if one["red_block"] == "slider_left" and one["slider"] == "left"
    )
    assert chains.possible(state, "lift_red_block_slider") == []  # the door is in front of it
    (opened,) = chains.possible(state, "move_slider_right")
    (held,) = chains.possible(opened, "lift_red_block_slider")
    assert held["red_block"] == "grasped" and chains.possible(held, "turn_on_led") == []


def test_what_has_to_be_done_before_a_task_that_cannot_begin_a_chain():
    before = {name: {one for _, one in chains.preparations(name)} for name in chains.NAMES}
    assert sum(one == {()} for one in before.values()) == 27
    assert before["stack_block"] == {(f"lift_{color}_block_table",) for color in chains.COLORS}
    assert before["unstack_block"] == {(f"lift_{color}_block_table", "stack_block") for color in chains.COLORS}
    assert before["lift_red_block_drawer"] == {("lift_red_block_table", "place_in_drawer")}
    for name in chains.NAMES:
        for state, tasks in chains.preparations(name):
            for task in (*tasks, name):
                (state,) = chains.possible(state, task)
