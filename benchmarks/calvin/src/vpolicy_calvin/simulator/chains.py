"""The 1000 chains of CALVIN's evaluation, the states in which they begin, and what every task needs and does.

A chain is five tasks of different categories, each possible in the state that the ones before it leave behind. The
rules are facts of ``calvin_models/calvin_agent/evaluation/multistep_sequences.py`` (mees/calvin, fa03f01), initial
states of ``utils.py`` beside it. ``chains.txt`` was computed by ``tests/generate_chains.py``. Runs without the
simulator, too.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple

import numpy as np

COLORS = ("red", "blue", "pink")
SHELVES = ("slider_right", "slider_left")
"""Where a block can lie behind the sliding door."""

State = Dict[str, Any]
"""What is where: ``led`` and ``lightbulb`` (0 or 1), ``slider``, ``drawer``, ``red_block`` and so on, ``grasped``."""


class Change(NamedTuple):
    """What a task needs and what it does.

    Args:
        condition: Allowed values by what they are of.
        effect: Values afterwards.
    """

    condition: Mapping[str, tuple[Any, ...]]
    effect: Mapping[str, Any]


class Chain(NamedTuple):
    """One chain.

    Args:
        state: In which it begins.
        tasks: Names, in order.
    """

    state: State
    tasks: tuple[str, ...]


def _change(condition: Mapping[str, Any], effect: Mapping[str, Any]) -> Change:
    allowed = {"grasped": 0, **condition}
    return Change({key: v if isinstance(v, tuple) else (v,) for key, v in allowed.items()}, effect)


def _tasks() -> Iterator[tuple[str, int, list[Change]]]:
    """Name, category and possible changes of the 34 tasks, in the publishers' order, which random numbers choose by."""
    block = {color: f"{color}_block" for color in COLORS}
    pairs = list(permutations(block.values(), 2))
    for verb, color, side in product(("rotate", "push"), COLORS, ("right", "left")):
        yield f"{verb}_{block[color]}_{side}", 1, [_change({block[color]: "table"}, {})]
    for side, other in (("left", "right"), ("right", "left")):
        yield f"move_slider_{side}", 2, [_change({"slider": other}, {"slider": side})]
    yield "open_drawer", 3, [_change({"drawer": "closed"}, {"drawer": "open"})]
    yield "close_drawer", 3, [_change({"drawer": "open"}, {"drawer": "closed"})]
    for one in block.values():
        held = {one: "grasped", "grasped": 1}
        yield f"lift_{one}_table", 4, [_change({one: "table"}, held)]
        # the door hides the side on which it stands
        free = [("slider_left", "right"), ("slider_right", "left")]
        yield f"lift_{one}_slider", 5, [_change({one: shelf, "slider": door}, held) for shelf, door in free]
        yield f"lift_{one}_drawer", 6, [_change({one: "drawer", "drawer": "open"}, held)]
    yield (
        "place_in_slider",
        7,
        [
            _change({one: "grasped", "slider": door, "grasped": 1}, {one: f"slider_{door}", "grasped": 0})
            for one in block.values()
            for door in ("right", "left")
        ],
    )
    yield (
        "place_in_drawer",
        7,
        [
            _change({one: "grasped", "drawer": "open", "grasped": 1}, {one: "drawer", "grasped": 0})
            for one in block.values()
        ],
    )
    yield (
        "stack_block",
        10,
        [
            _change(
                {top: "grasped", bottom: "table", "grasped": 1},
                {top: "stacked_top", bottom: "stacked_bottom", "grasped": 0},
            )
            for top, bottom in pairs
        ],
    )
    yield (
        "unstack_block",
        11,
        [
            _change({top: "stacked_top", bottom: "stacked_bottom"}, {top: "table", bottom: "table"})
            for top, bottom in pairs
        ],
    )
    for name in ("lightbulb", "led"):
        yield f"turn_on_{name}", 8, [_change({name: 0}, {name: 1})]
        yield f"turn_off_{name}", 8, [_change({name: 1}, {name: 0})]
    into = [
        _change({one: "table", **dict.fromkeys(others, SHELVES), "drawer": "open"}, {one: "drawer"})
        for one in block.values()
        if (others := [other for other in block.values() if other != one])
    ]
    yield "push_into_drawer", 9, into


CHANGES: dict[str, list[Change]] = {name: changes for name, _, changes in _tasks()}
"""Possible changes by task."""
NAMES: tuple[str, ...] = tuple(CHANGES)
CATEGORIES: dict[str, int] = {name: category for name, category, _ in _tasks()}
"""Of a chain's tasks no two have the same."""


def possible(state: State, task: str) -> list[State]:
    """The states to which a task may lead; one of a chain must lead to exactly one."""
    return [
        {**state, **change.effect}
        for change in CHANGES[task]
        if all(state[key] in allowed for key, allowed in change.condition.items())
    ]


@lru_cache(maxsize=1)
def initial_states() -> tuple[State, ...]:
    """The 192 states in which chains begin: one or two blocks on the table, the others on different shelves."""
    choices = {
        "led": (0, 1),
        "lightbulb": (0, 1),
        "slider": ("right", "left"),
        "drawer": ("closed", "open"),
        **{f"{color}_block": ("table", *SHELVES) for color in COLORS},
        "grasped": (0,),
    }
    states = (dict(zip(choices, values)) for values in product(*choices.values()))
    return tuple(state for state in states if _is_initial(list(state.values())))


def _is_initial(values: list[Any]) -> bool:
    return values.count("table") in (1, 2) and all(values.count(shelf) < 2 for shelf in SHELVES)


@lru_cache(maxsize=None)
def preparations(task: str) -> tuple[tuple[State, tuple[str, ...]], ...]:
    """The initial states from which a task can be done, each with what has to be done before.

    That is nothing for the 27 tasks that can begin a chain. The others want a block in the hand, in the drawer or on
    another one: it is lifted from the table, and put there.
    """
    lifts = [f"lift_{color}_block_table" for color in COLORS]
    put = [(lift, then) for then in ("place_in_drawer", "stack_block") for lift in lifts]
    for choices in ([()], [(lift,) for lift in lifts], put):
        found = [(state, before) for before in choices for state in initial_states() if _leads(state, (*before, task))]
        if found:
            return tuple(found)
    raise ValueError(f"nothing that is known leads to '{task}'")


def _leads(state: State, tasks: tuple[str, ...]) -> bool:
    """Whether tasks can be done one after the other, each in one way."""
    for task in tasks:
        states = possible(state, task)
        if len(states) != 1:
            return False
        state = states[0]
    return True


@lru_cache(maxsize=1)
def chains() -> tuple[Chain, ...]:
    """The official chains, in order."""
    lines = Path(__file__).with_name("chains.txt").read_text(encoding="utf-8").splitlines()
    rows = (tuple(map(int, line.split())) for line in lines if not line.startswith("#"))
    return tuple(Chain(initial_states()[state], tuple(NAMES[task] for task in tasks)) for state, *tasks in rows)


# Initial states in numbers, for table D

ROBOT = (0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963)
ROBOT += (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928, 1.0)
"""``robot_obs`` at the beginning of every chain: position, Euler angles, opening, seven joints, gripper action."""
SHELF = {
    "slider_left": (-2.40851662e-01, 9.24044687e-02, 4.60990009e-01),
    "slider_right": (7.03416330e-02, 9.24044687e-02, 4.60990009e-01),
}
TABLE = ((5.00000896e-02, -1.20000177e-01, 4.59990009e-01), (2.29995412e-01, -1.19995140e-01, 4.59990010e-01))
"""Places for blocks, in metres."""
SLIDER_LEFT, DRAWER_OPEN, SWITCH_ON = 0.28, 0.22, 0.088
"""Positions of joints, in metres."""
YAW = (np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)
"""Range of a block's rotation about the vertical, in radians."""


def fnv1(text: str) -> int:
    """The hash by which initial states are seeded: pyhash's 32-bit FNV-1, which begins at 0 and reads UTF-16."""
    value = 0
    for byte in text.encode("utf-16-le"):
        value = (value * 0x01000193) & 0xFFFFFFFF ^ byte
    return value


def numbers(state: State) -> tuple[np.ndarray, np.ndarray]:
    """``robot_obs`` (15,) and ``scene_obs`` (24,) float64 with which an initial state begins on table D.

    Blocks come in the order of table D: red, blue, pink.
    """
    random = np.random.RandomState(fnv1(str(state.values())))
    table = [np.array(place) for place in TABLE]
    random.shuffle(table)
    scene = np.zeros(24)
    scene[0] = SLIDER_LEFT if state["slider"] == "left" else 0.0
    scene[1] = DRAWER_OPEN if state["drawer"] == "open" else 0.0
    scene[3] = SWITCH_ON if state["lightbulb"] else 0.0
    scene[4], scene[5] = state["lightbulb"], state["led"]
    # Blue takes the second place where red has the first; pink has always the second.
    second = {"red": False, "blue": state["red_block"] == "table", "pink": True}
    for number, color in enumerate(COLORS):
        where = state[f"{color}_block"]
        begin = 6 + 6 * number
        scene[begin : begin + 3] = table[second[color]] if where == "table" else SHELF[where]
        scene[begin + 5] = random.uniform(*YAW)
    return np.array(ROBOT), scene
