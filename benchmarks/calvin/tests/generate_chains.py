"""Computes CALVIN's official chains: ``python benchmarks/calvin/tests/generate_chains.py`` writes ``chains.txt`` again.

Of every initial state as many chains as are its share of 1000, drawn with its own seed until they are possible, all of
them shuffled. numpy's old random numbers, which no version changes, make that exact. A minute of one processor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SIMULATOR = Path(__file__).parents[1] / "src" / "vpolicy_calvin" / "simulator"
COUNT, LENGTH = 1000, 5
HEADER = """\
# CALVIN's 1000 chains, computed by tests/generate_chains.py: numbers of the initial state and of the tasks.
"""


def places(rules) -> list[tuple[int, int]]:
    """For every chain the number of its initial state, and which of that state's chains it is."""
    shares = np.array_split(np.arange(COUNT), len(rules.initial_states()))
    found = [(state, number) for state, share in enumerate(shares) for number in range(len(share))]
    np.random.RandomState(0).shuffle(found)  # a list: rows of an array would be exchanged otherwise
    return found


def drawn(rules, index: int, wanted: int) -> list[list[int]]:
    """The first chains that begin in one initial state, by numbers of tasks."""
    begun, random = rules.initial_states()[index], np.random.RandomState(index)
    startable = [len(rules.possible(begun, name)) == 1 for name in rules.NAMES]
    category = list(rules.CATEGORIES.values())
    found: list[list[int]] = []
    while len(found) < wanted:
        tasks = random.permutation(len(rules.NAMES))[
            :LENGTH
        ].tolist()  # what numpy's `choice` draws without replacement
        if not startable[tasks[0]] or len({category[task] for task in tasks}) < LENGTH:
            continue
        states = [begun]
        for task in tasks:
            states = rules.possible(states[0], rules.NAMES[task])
            if len(states) != 1:
                break
        else:
            found.append(tasks)
    return found


def main() -> None:
    sys.path.insert(0, str(SIMULATOR))
    import chains as rules

    order = places(rules)
    wanted = [sum(state == index for state, _ in order) for index in range(len(rules.initial_states()))]
    chains = [drawn(rules, index, count) for index, count in enumerate(wanted)]
    lines = (" ".join(map(str, (state, *chains[state][number]))) for state, number in order)
    (SIMULATOR / "chains.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
