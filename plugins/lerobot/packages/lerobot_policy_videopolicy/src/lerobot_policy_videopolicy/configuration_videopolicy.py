"""What LeRobot's command line may say about a policy of ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.optim import LRSchedulerConfig, OptimizerConfig

UNTRAINED = "Policies of videopolicy are trained by `vpolicy run`; LeRobot evaluates them."


@PreTrainedConfig.register_subclass("videopolicy")
@dataclass
class VideoPolicyConfig(PreTrainedConfig):
    """A policy of ours; spaces, scaling and chunks are those of its run.

    Args:
        run: Folder of a finished run, such as ``runs/quickstart``, or one that ``vpolicy export`` wrote. Left out where
            `pretrained_path` names a folder that `VideoPolicyPolicy.save_pretrained` wrote.
        cameras: By name of a camera of the policy, the key of its images in LeRobot's batches; left out,
            ``observation.images.NAME``, or ``observation.NAME`` where that is what the batch has.
        instruction: What is to be done where the environment does not say; left out, that of the policy's only task.
        seed: Of all noise: the n-th episode since the policy was made draws from ``seed + n``.
        trust: Whether the Python files that the run's recipe names may be run.
    """

    run: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    instruction: str = ""
    seed: int = 0
    trust: bool = False

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> OptimizerConfig:
        raise NotImplementedError(UNTRAINED)

    def get_scheduler_preset(self) -> LRSchedulerConfig | None:
        raise NotImplementedError(UNTRAINED)

    def validate_features(self) -> None:
        """Nothing: what the policy is given is compared with what it was trained on when it is given."""
