"""Options of `uva-joint`.

Defaults: github.com/ShuangLI59/unified_video_action (288e154), base size.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyText, ClipText, FeatureLayout, Spaces, WhenActing, Window
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.options import Options
from vpolicy_uva.options import CosineLatent, Head, KlLatent, StateHead, Transformer


class UvaJointOptions(Options):
    """Options of `uva-joint`.

    Args:
        image_size: Height and width that images are resized to.
        frames: F, frames of the history and of the future alike, of every view.
        stride: Environment steps between future frames; the first is ``stride`` steps ahead.
        history_stride: Environment steps between history frames, the last of which is the present one; 0 repeats the
            present one, the only one of its view. Paper's Fig. 6 varies the length of the history.
        random_history: Training draws the history frames from all steps that the history spans, with repetition and
            the last one always present (``different_history_freq``). The policy is then handed every step.
        horizon: Actions that belong to the future frames; None: ``frames * stride``. Forward dynamics sees them.
        past_actions: Actions before the present; 0 for none, as in all configurations. The paper's Fig. 2 has them.
        past_action_drop: Probability with which training hides each of them (``1 - action_mask_ratio``).
        proprioception: Condition on the robot's state.
        states: At which steps: at every ``step`` that the history spans, as the official code has it for simulated
            robots (16 states), or at the history's ``frames`` alone (4). None: every step, or the frames where
            ``random_history`` draws them, as in the official code.
        predict_proprioception: Predict the states to come as well; None: no, as in most official configurations.
        views: ``fused`` cell by cell, as the official code fuses its wrist camera: every view is a stream of its own
            channels, and every predicted one has a head of its own. ``concatenated`` on the time axis: one clip of all,
            each conditioned on its own history, predicted by one head (Liang et al. 2025, appendix A.2).
        predicted_views: Cameras whose future is predicted; None: all. The others are seen only.
        seen_views: Cameras whose history is seen; None: all. The others are predicted only, which the official model
            can do for the wrist's (``predict_wrist_img`` without ``use_proprioception``). The first is always seen.
        inverse_hides: Whose history inverse dynamics hides, of fused views. The official code hides the first's only.
        latent: Images to tokens.
        text: What reads the instruction, whose pooled vector is repeated; None: no language.
        text_tokens: How often.
        text_drop: Probability with which training hides the instruction, for guidance.
        transformer: The masked transformer.
        video: The video head; None: no video is predicted (the paper's UVA-action).
        video_steps: Autoregressive steps in which `predict_video` reveals the frames, where the caller names no number.
        mask_ratio_min: The share of masked tokens, one draw for all rows, is normal around 1 with deviation 0.25, cut
            at this and at 1.
        future_mask: Whether frames past the end of an episode, which repeat its last one, count for the loss. The
            official code pads episodes by a few steps and counts them.
        forward: Trained on its own, it is conditioned on the actions that lead to the future frames: a model of
            forward dynamics and nothing else. Inside `uva` the modes decide.
        initial_weights: Folder that ``vpolicy import mar`` made; what has the same name and shape is taken from there.
    """

    image_size: tuple[int, int] = (256, 256)
    frames: int = Field(4, ge=1)
    stride: int = Field(4, ge=1)
    history_stride: int = Field(4, ge=0)
    random_history: bool = False
    horizon: int | None = Field(None, ge=1)
    past_actions: int = Field(0, ge=0)
    past_action_drop: float = Field(0.5, ge=0, le=1)
    proprioception: bool = False
    views: Literal["fused", "concatenated"] = "fused"
    states: Literal["steps", "frames"] | None = None
    predict_proprioception: StateHead | None = None
    predicted_views: tuple[str, ...] | None = Field(None, min_length=1)
    seen_views: tuple[str, ...] | None = Field(None, min_length=1)
    inverse_hides: Literal["first", "all"] = "first"
    latent: Annotated[KlLatent | SpaceToDepthLatent | CosineLatent, Field(discriminator="type")] = KlLatent()
    text: AnyText | None = ClipText(max_length=30)
    text_tokens: int = Field(64, ge=1)
    text_drop: float = Field(0.1, ge=0, lt=1)
    transformer: Transformer = Transformer()
    video: Head | None = Head()
    video_steps: Annotated[int, WhenActing()] = Field(1, ge=1)
    mask_ratio_min: float = Field(0.7, ge=0, lt=1)
    future_mask: bool = True
    forward: bool = False
    initial_weights: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> UvaJointOptions:
        patch = self.latent.patch
        if any(size % patch for size in self.image_size):
            raise ValueError(f"image_size {list(self.image_size)} must be multiples of {patch}")
        tokens = self.frames * self.grid[0] * self.grid[1]
        states = len(self.state_offsets) if self.proprioception else 0
        for name, count in (("horizon", self.chunk), ("past_actions", self.past_actions), ("states", states)):
            if count and tokens % count:
                raise ValueError(f"{name} {count} must divide the {tokens} tokens of all frames")
        if self.views == "concatenated" and (self.predicted_views is not None or self.seen_views is not None):
            raise ValueError("concatenated views are one clip as a whole: leave predicted_views and seen_views out")
        if self.random_history and not self.history_stride:
            raise ValueError("random_history needs a history_stride above 0")
        if self.random_history and self.states == "steps":
            raise ValueError("random_history draws the frames, and the states with them: it needs states: frames")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a frame in tokens."""
        return self.image_size[0] // self.latent.patch, self.image_size[1] // self.latent.patch

    @property
    def chunk(self) -> int:
        """Actions that belong to the future frames."""
        return self.horizon or self.frames * self.stride

    def layout(self, spaces: Spaces) -> FeatureLayout:
        """Unfolding of the joint latent; concatenated views have their frames one behind another."""
        height, width = self.grid
        frames = self.frames * (len(spaces.cameras) if self.views == "concatenated" else 1)
        axes = (("frames", frames), ("height", height), ("width", width))
        return FeatureLayout(self.transformer.out_width, axes)

    @property
    def history(self) -> tuple[int, ...]:
        """Offsets of the history frames when acting; one for all where they repeat."""
        return tuple(-self.history_stride * k for k in reversed(range(self.frames))) if self.history_stride else (0,)

    @property
    def _spanned(self) -> tuple[int, ...]:
        """Offsets of all steps that the history spans."""
        return tuple(range(min(0, 1 - self.frames * self.history_stride), 1))

    @property
    def state_offsets(self) -> tuple[int, ...]:
        """Offsets of the states when acting."""
        at = self.states or ("frames" if self.random_history else "steps")
        return self._spanned if at == "steps" else self.history

    def window(self) -> Window:
        every = self.random_history or (self.proprioception and self.state_offsets == self._spanned)
        future = tuple(self.stride * (k + 1) for k in range(self.frames))
        return Window(
            self._spanned if every else self.history,
            future,
            self.chunk if self.forward else 0,
            self.past_actions,
            tuple(range(1, future[-1] + 1)) if self.predict_proprioception else (),
        )
