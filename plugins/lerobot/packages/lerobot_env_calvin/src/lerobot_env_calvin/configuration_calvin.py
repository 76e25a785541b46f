"""What LeRobot's command line may say about CALVIN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from lerobot_env_calvin.environments import AGENT_POS, CalvinEnvironments
from videopolicy import BenchmarkComponent, RecipeError
from videopolicy.components.registry import current_registry
from videopolicy.recipes.single import component_from
from videopolicy.recipes.source import Source

CHAINS, TASKS = "chains", "tasks"


@EnvConfig.register_subclass("calvin")
@dataclass
class CalvinEnvConfig(EnvConfig):
    """CALVIN's table D: the official chains of five tasks, or tasks one at a time.

    Args:
        task: ``chains``: an episode is one of the 1000 official chains; its reward is 1 for every task solved, so that
            the mean sum is the average chain length of papers, and it succeeds with all five. ``tasks``: every task on
            its own; its success ends it with a reward of 1.
        task_names: Of tasks, each on its own, or those of which chains may consist; left out, all 34.
        episode_length: Steps of 1/30 s that every task may take, 360 in publications.
        rendering: ``egl``, pybullet's OpenGL plugin, or ``tiny``, its own rasterizer; their pictures differ.
        features, features_map: Follow from the others.
    """

    task: str | None = CHAINS
    fps: int = 30
    task_names: list[str] | None = None
    episode_length: int = 360
    rendering: str = "egl"
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spaces = self.benchmark().spaces()
        if self.fps != spaces.actions.rate:
            raise RecipeError(f"CALVIN runs at {spaces.actions.rate:g} steps a second.", "Leave `fps` out.")
        state = spaces.state
        assert state is not None  # CALVIN's arm says where it is
        cameras = {f"{OBS_IMAGES}.{one.name}": (one.height, one.width, 3) for one in spaces.cameras}
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (spaces.actions.dim,)),
            AGENT_POS: PolicyFeature(FeatureType.STATE, (state.dim,)),
            **{key: PolicyFeature(FeatureType.VISUAL, shape) for key, shape in cameras.items()},
        }
        self.features_map = {key: OBS_STATE if key == AGENT_POS else key for key in self.features}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Nothing: no environment is made by its name."""
        return {}

    def benchmark(self) -> BenchmarkComponent:
        """CALVIN as recipes know it.

        Raises:
            RecipeError: An option is wrong, such as the name of a task.
        """
        if self.task not in (CHAINS, TASKS):
            raise RecipeError(
                f"`task` is {self.task!r}, which is neither '{CHAINS}' nor '{TASKS}'.",
                "Choose one of them: --env.task=tasks; name single tasks in --env.task_names.",
            )
        chosen = {} if self.task_names is None else {"task_names": list(self.task_names)}
        options = {"evaluate": self.task, "rendering": self.rendering, "max_steps": self.episode_length, **chosen}
        return component_from(Source({"type": "calvin", **options}), BenchmarkComponent, current_registry())

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, gym.vector.VectorEnv]]:
        """One for the chains, or one for every task; nothing is started before it is reset.

        Args:
            n_envs: Simulators of each, which always run side by side, in processes of their own.
            use_async_envs: Makes no difference, therefore.
        """
        benchmark = self.benchmark()
        made = {number: CalvinEnvironments(benchmark, task, n_envs) for number, task in enumerate(benchmark.tasks())}
        return {f"calvin_{self.task}": made}
