"""Puts a benchmark's observations into a server's layout, and a server's actions into the benchmark's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from videopolicy import Observation, PolicyServerError, Spaces, Window, listing
from vpolicy_remote.options import RemoteOptions


class Adapter:
    """Translates between the two sides.

    Args:
        options: What the server wants.
        spaces: What the benchmark has.
    """

    def __init__(self, options: RemoteOptions, spaces: Spaces) -> None:
        self._options, self._spaces = options, spaces
        self._keys = options.cameras or {one.name: f"observation/{one.name}" for one in spaces.cameras}
        theirs = options.orientation
        self._mirrored = {one.name: theirs not in (None, one.orientation) for one in spaces.cameras}
        names = spaces.state.names if spaces.state else ()
        self._places = list(range(len(names))) if options.state is None else [names.index(one) for one in options.state]
        self._turns_gripper = options.gripper not in (None, spaces.actions.gripper)

    def ensure_fits(self, said: dict[Any, Any]) -> None:
        """Compare what a server says of itself with the benchmark; one that says nothing is taken as it is.

        Raises:
            PolicyServerError: They do not fit.
        """
        where, problems = f"the server {self._options.url}", []
        window = self._options.window()
        if isinstance(said.get("spaces"), dict):
            try:
                theirs = Spaces.model_validate(said["spaces"])
            except ValueError as error:
                raise PolicyServerError(f"{where} describes itself wrongly: {error}", "Look at the server.") from None
            if self._options.preset == "videopolicy" and self._options.cameras is None:
                problems += theirs.mismatches(self._spaces, where, "the benchmark")
        frames = said.get("observed")
        if isinstance(frames, list) and tuple(frames) != window.observed:
            problems.append(f"{where} sees the frames {frames} and policy.observed is {list(window.observed)}")
        for name, ours in (("past_actions", window.past_actions), ("horizon", window.horizon)):
            theirs_ = said.get(name)
            wrong = type(theirs_) is int and (theirs_ < ours if name == "horizon" else theirs_ != ours)
            if wrong:
                problems.append(f"{name} is {theirs_} in {where} and policy.{name} is {ours}")
        if problems:
            hint = "Change the recipe's benchmark or the policy's fields, or ask another server."
            raise PolicyServerError(f"The server does not fit the recipe: {'; '.join(problems)}.", hint)

    def question(self, observation: Observation, row: int) -> dict[str, Any]:
        """What one row of the benchmark sees, as the server wants it."""
        asked: dict[str, Any] = {
            key: self._frames(observation.images[camera][row], self._mirrored[camera])
            for camera, key in self._keys.items()
        }
        if observation.state is not None and self._places:
            asked[self._options.state_key] = self._squeezed(observation.state[row][:, self._places].cpu().numpy())
        if observation.past_actions is not None:
            past = observation.past_actions[row].cpu().numpy().copy()
            asked["observation/past_actions"] = self._own(past) if self._turns_gripper else past
        return {**asked, self._options.prompt_key: observation.instructions[row]}

    def chunk(self, answer: Any, window: Window) -> Tensor:
        """The actions ``(H, A)`` of an answer.

        Raises:
            PolicyServerError: There are none, or they have another width, length or value.
        """
        where, key, width = f"The server {self._options.url}", self._options.actions_key, self._spaces.actions.dim
        if not isinstance(answer, dict) or key not in answer:
            there = listing(str(one)[:40] for one in answer) if isinstance(answer, dict) else type(answer).__name__
            hint = "Name the key of its actions in policy.actions_key."
            raise PolicyServerError(f"{where} has answered without '{key}', but with {there}.", hint)
        try:
            found = np.array(answer[key], np.float32)
        except (TypeError, ValueError):
            raise PolicyServerError(
                f"{where} has answered something else than numbers as '{key}'.", "Look at the server."
            ) from None
        if found.ndim != 2 or found.shape[1] != width or len(found) < window.horizon:
            raise PolicyServerError(
                f"{where} has answered actions of shape {found.shape}, and ({window.horizon} or more, {width}) is "
                f"wanted: the benchmark's actions are {', '.join(self._spaces.actions.names)}.",
                "Set policy.horizon to what the server plans, or name a benchmark with the server's actions.",
            )
        if not np.isfinite(found).all():
            raise PolicyServerError(f"{where} has answered NaN or infinity.", "Look at the server.")
        found = found[: window.horizon]
        return torch.from_numpy(self._own(found) if self._turns_gripper else found)

    def _own(self, actions: np.ndarray) -> np.ndarray:
        actions[:, -1] *= -1
        return actions

    def _frames(self, frames: Tensor, mirrored: bool) -> np.ndarray:
        """Frames ``(T, 3, height, width)`` as the server's ``(T, height, width, 3)``, without T where there is one."""
        found = frames.permute(0, 2, 3, 1).cpu().numpy()
        if mirrored:
            found = found[:, :, ::-1]
        if self._options.image_size is not None:
            found = np.stack([padded(frame, self._options.image_size) for frame in found])
        return np.ascontiguousarray(self._squeezed(found))

    def _squeezed(self, values: np.ndarray) -> np.ndarray:
        return values[0] if len(values) == 1 else values


def padded(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image ``(height, width, 3)`` at another size with its proportions, black where there is nothing.

    Source: openpi, ``openpi_client/image_tools.py``, ``resize_with_pad``.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    inner = (int(image.shape[1] / ratio), int(image.shape[0] / ratio))
    small = Image.fromarray(np.ascontiguousarray(image)).resize(inner, Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (width, height))
    whole.paste(small, (max(0, (width - inner[0]) // 2), max(0, (height - inner[1]) // 2)))
    return np.asarray(whole)
