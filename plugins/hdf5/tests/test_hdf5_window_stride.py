"""Windows at every n-th step only."""

from __future__ import annotations

import numpy as np
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import Window
from videopolicy.testing import toy_episode, toy_spaces


def test_windows_begin_at_every_third_step_of_each_episode(tmp_path):
    spaces = toy_spaces()
    writer = RobomimicHDF5().writer(tmp_path, spaces)
    episodes = [toy_episode(spaces, steps=steps, attempt=attempt) for attempt, steps in enumerate((7, 4))]
    for episode in episodes:
        writer.add(episode)
    folder = writer.finish({episodes[0].task: [0, 1]})
    every = RobomimicHDF5().build(folder)
    some = RobomimicHDF5(window_stride=3).build(folder)
    windows = some.windows(Window(horizon=2))
    assert len(windows) == 3 + 2
    batch = windows.batch(range(5))
    starts = [(0, 0), (0, 3), (0, 6), (1, 0), (1, 3)]
    for row, (episode, step) in enumerate(starts):
        assert np.array_equal(batch.actions[row, 0].numpy(), episodes[episode].actions[step])
    assert batch.action_mask[2].tolist() == [True, False]
    assert every.fingerprint() != some.fingerprint()
