"""A policy trained by videopolicy behind LeRobot's interface of policies."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE, OBS_STR
from torch import Tensor

import videopolicy
from lerobot_policy_videopolicy.configuration_videopolicy import UNTRAINED, VideoPolicyConfig
from lerobot_policy_videopolicy.processor_videopolicy import make_videopolicy_pre_post_processors
from videopolicy import DataError, Policy, WeightsError, listing
from videopolicy.deployment import DeployedPolicy, export
from videopolicy.training.weight_files import WEIGHTS

EXPORTED = "videopolicy"
"""Folder inside one of LeRobot's that holds what ``vpolicy export`` writes."""


class VideoPolicyPolicy(PreTrainedPolicy):
    """Chunks are executed, noise is drawn and observations are checked as `videopolicy.DeployedPolicy.step` does.

    Every row of a batch is a robot with a memory of its own, which plans in a forward pass of its own, so that its
    actions do not depend on the others.

    Args:
        config: Names the run.
        described: Of a dataset, from LeRobot's training; not looked at.
    """

    config_class = VideoPolicyConfig
    name = "videopolicy"

    def __init__(self, config: VideoPolicyConfig, **described: Any) -> None:
        super().__init__(config)
        if not config.run:
            raise WeightsError("No run is named.", "Name one: --policy.run=runs/NAME, or a folder of `vpolicy export`.")
        self._loaded = videopolicy.load(config.run, config.device, config.trust)
        self.model = self._loaded.actor.policy
        self._ensure_width(config)
        self._begun = 0
        self._robots: list[DeployedPolicy] = []

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **others: Any
    ) -> VideoPolicyPolicy:
        """Load what `save_pretrained` wrote.

        Args:
            pretrained_name_or_path: The folder.
            config: Of the policy; None: the one in the folder.
            others: Of the Hub, which is not asked.

        Raises:
            WeightsError: There is no such folder.
        """
        folder = Path(pretrained_name_or_path)
        if not (folder / EXPORTED / WEIGHTS).is_file():
            raise WeightsError(
                f"{folder} has no {EXPORTED}/{WEIGHTS}, as `VideoPolicyPolicy.save_pretrained` writes it.",
                "Name a run instead: --policy.type=videopolicy --policy.run=runs/NAME.",
            )
        found = PreTrainedConfig.from_pretrained(folder) if config is None else config
        assert isinstance(found, VideoPolicyConfig)
        found.run = str(folder / EXPORTED)
        return cls(found).eval()

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write a folder that ``--policy.path`` takes: the exported policy, its configuration, and the pipelines."""
        run, folder = Path(self.config.run), save_directory / EXPORTED
        if (run / WEIGHTS).is_file():
            shutil.copytree(run, folder, dirs_exist_ok=True)
        else:
            export(run, folder, self.config.trust, force=True)
        for pipeline in make_videopolicy_pre_post_processors(self.config):
            pipeline.save_pretrained(save_directory)
        dataclasses.replace(self.config, run="", pretrained_path=None)._save_pretrained(save_directory)

    def reset(self) -> None:
        """New episodes begin in all rows."""
        self._begun += len(self._robots)
        self._robots = []

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """The action of this control step.

        Args:
            batch: LeRobot's observations: images ``(B, 3, height, width)`` from 0 to 1, ``observation.state``
                ``(B, S)``, and ``task``, B sentences; a changed sentence begins a new task.
            kwargs: Of other policies.

        Returns:
            ``(B, A)`` float32 in the units of the policy's benchmark.

        Raises:
            DataError: Something has another name, shape or range than in training; the message says which.
        """
        images, states, sentences = self._seen(batch)
        actions = [
            robot.step({name: frames[row] for name, frames in images.items()}, states[row], sentences[row])
            for row, robot in enumerate(self._at_work(len(sentences)))
        ]
        return torch.from_numpy(np.stack(actions)).to(self.config.device)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """A whole plan from exactly the frames that are given.

        Args:
            batch: See `select_action`; a policy that sees T > 1 frames is given images ``(B, T, 3, height, width)`` and
                states ``(B, T, S)``.
            kwargs: Of other policies.

        Returns:
            ``(B, H, A)`` float32.

        Raises:
            DataError: See `select_action`.
        """
        images, states, sentences = self._seen(batch)
        chunks = [
            robot.act({name: frames[row] for name, frames in images.items()}, states[row], sentences[row])
            for row, robot in enumerate(self._at_work(len(sentences)))
        ]
        return torch.from_numpy(np.stack(chunks)).to(self.config.device)

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any] | None]:
        raise NotImplementedError(UNTRAINED)

    def get_optim_params(self) -> dict[str, Any]:
        raise NotImplementedError(UNTRAINED)

    def _at_work(self, count: int) -> list[DeployedPolicy]:
        """The robots of a batch, which are made with its first observation."""
        if len(self._robots) != count:
            if count > 1 and type(self.model).reset is not Policy.reset:
                raise DataError(
                    f"The policy of '{self._loaded.name}' remembers what it has seen, of one robot at a time.",
                    "Evaluate it in one environment at a time: --eval.batch_size=1.",
                )
            self.reset()
            one = self._loaded
            self._robots = [
                DeployedPolicy(one.actor, one.spaces, one.execute, one.name, one.instructions) for _ in range(count)
            ]
            for row, robot in enumerate(self._robots):
                robot.reset(self.config.seed + self._begun + row)
        return self._robots

    def _seen(self, batch: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[np.ndarray | None], list[str]]:
        """Images by camera with the colours last, states and sentences of all rows."""
        images = {
            camera.name: batch[self._key(camera.name, batch)].movedim(-3, -1).cpu().numpy()
            for camera in self._loaded.spaces.cameras
        }
        rows = len(next(iter(images.values())))
        given = batch.get(OBS_STATE)
        states: list[np.ndarray | None] = [None] * rows if given is None else list(given.cpu().numpy())
        said = batch.get("task") or [""] * rows
        said = [said] * rows if isinstance(said, str) else list(said)
        return images, states, [str(one).strip() or self._sentence() for one in said]

    def _key(self, camera: str, batch: dict[str, Any]) -> str:
        """Under which a batch has the images of a camera."""
        chosen = self.config.cameras.get(camera)
        for key in [chosen] if chosen else [f"{OBS_IMAGES}.{camera}", f"{OBS_STR}.{camera}"]:
            if key in batch:
                return key
        there = [key for key, value in batch.items() if isinstance(value, Tensor) and value.ndim > 3]
        raise DataError(
            f"The policy sees camera '{camera}', and the environment gives {listing(there, 8) or 'no images'}.",
            f'Say which of them it is: --policy.cameras=\'{{"{camera}": "KEY"}}\'.',
        )

    def _sentence(self) -> str:
        """What is to be done where the environment does not say."""
        said = self.config.instruction or (self._loaded.instructions[0] if len(self._loaded.instructions) == 1 else "")
        if not said:
            raise DataError(
                "The environment says nothing of what is to be done, and the policy is conditioned on it.",
                "Say it: --policy.instruction='open the drawer'.",
            )
        return said

    def _ensure_width(self, config: VideoPolicyConfig) -> None:
        """Check that the environment takes as many numbers as the policy gives.

        Raises:
            DataError: It does not.
        """
        feature, dim = config.action_feature, self._loaded.spaces.actions.dim
        if feature is not None and tuple(feature.shape) != (dim,):
            raise DataError(
                f"The environment's actions have shape {tuple(feature.shape)}, and those of '{self._loaded.name}' have "
                f"{dim} dimensions: {', '.join(self._loaded.spaces.actions.names)}.",
                "Evaluate it in the environment that it was trained for.",
            )
