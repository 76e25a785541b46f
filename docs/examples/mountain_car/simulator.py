"""The simulator of `mountain-car`: imports `vpolicy_worker` and nothing of the core."""

import hashlib

import gymnasium
import numpy as np
from vpolicy_worker import StepwiseSimulator


class MountainCarSimulator(StepwiseSimulator):
    """One action a step; success at any step ends an episode."""

    def __init__(self, max_steps, spaces):
        self.max_steps, self.spaces = max_steps, spaces
        self.env = gymnasium.make("MountainCarContinuous-v0", render_mode="rgb_array").unwrapped

    def hello(self):
        return {"simulator": "mountain-car", "versions": {"gymnasium": gymnasium.__version__}, "spaces": self.spaces}

    def reset(self, task, episode, images=True):
        initial = self.place(2 * episode)  # even seeds: no demonstration begins where an evaluation does
        return {"observation": self.observe(images), "initial_state": initial}

    def place(self, seed):
        """Begin an episode that depends on its seed alone, and return the hash of its initial state."""
        self.state, _ = self.env.reset(seed=seed)
        self.highest, self.random = -1.0, np.random.default_rng(seed)
        self.begin()
        return hashlib.sha256(np.asarray(self.env.state, np.float64).tobytes()).hexdigest()

    def advance(self, action):
        self.state, _, solved, _, _ = self.env.step(np.clip(action, -1, 1))
        self.highest = max(self.highest, float(np.sin(3 * self.state[0])))
        return bool(solved)

    def score(self):
        return self.highest  # from -1, the valley, to 1

    def observe(self, images=True):
        picture = self.env.render().reshape(40, 10, 60, 10, 3).mean((1, 3)) if images else None  # from 400 x 600
        return {"images": {"side": picture.astype(np.uint8)} if images else {}, "state": self.state.astype(np.float32)}

    def demonstrate(self, task, attempt, action_noise):
        """The expert pushes along the velocity, which adds energy at every step."""
        initial, seen, actions = self.place(2 * attempt + 1), [], []
        while not self.finished():
            seen.append(self.observe())
            actions.append(np.array([1.0 if self.state[1] >= 0 else -1.0], np.float32))
            self.take(actions[-1] + action_noise * self.random.standard_normal(1))  # recorded without the noise
        return {
            "images": {"side": np.stack([one["images"]["side"] for one in seen])},
            "state": np.stack([one["state"] for one in seen]),
            "actions": np.stack(actions),
            "initial_state": initial,
            "success": self.success,
        }

    def close(self):
        self.env.close()
