"""The model of video and actions: images and text in, joint latent and predicted frames out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from videopolicy import (
    Batch,
    Learner,
    Observation,
    RecipeError,
    RowGenerator,
    Spaces,
    Window,
    normal_noise,
    to_bytes,
    to_device,
)
from videopolicy.parts.requirements import required_state
from vpolicy_uva.head import DiffusionHead
from vpolicy_uva.joint_options import UvaJointOptions
from vpolicy_uva.latents import FrameMemory, build_latents, to_pixels
from vpolicy_uva.masking import MODES, left_hidden, masked_cells
from vpolicy_uva.options import Mode
from vpolicy_uva.state import StatePrediction
from vpolicy_uva.transformer import Conditioning, JointTransformer


class JointModel(Learner):
    """See `vpolicy_uva.joint_options.UvaJointOptions` for the options and their sources."""

    every_parameter_learns = True

    def __init__(self, options: UvaJointOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.cameras = [camera.name for camera in spaces.cameras]
        self.seen_cameras = [name for name in self.cameras if options.seen_views is None or name in options.seen_views]
        self.views_in_clip = len(self.cameras) if options.views == "concatenated" else 1
        predicted, seen = (
            [chosen is None or name in chosen for name in self.cameras[:: self.views_in_clip]]
            for chosen in (options.predicted_views, options.seen_views)
        )
        state = spaces.state.dim if options.proprioception and spaces.state else 0
        self.latent = build_latents(options.latent)
        self.text = options.text.build() if options.text else None
        text = options.text.pooled_dim if options.text else 0
        self.transformer = JointTransformer(
            options, predicted, seen, spaces.actions.dim, state, text, self.views_in_clip
        )
        channels, width = options.latent.latent_channels, options.transformer.out_width
        heads = [options.video] * len(self.transformer.predicted) if options.video else []
        self.video_heads: Sequence[DiffusionHead] = nn.ModuleList(  # type: ignore[assignment]
            [DiffusionHead(head, channels, width) for head in heads]
        )
        self.state_prediction: StatePrediction | None = None
        if options.predict_proprioception is not None and spaces.state:
            self.state_prediction = StatePrediction(
                options.predict_proprioception, options.layout(spaces), len(self.window.future_states), spaces.state.dim
            )
        self._memory = FrameMemory(self.latent, options.image_size)
        self.register_load_state_dict_post_hook(lambda module, _: module._memory.forget())
        if options.initial_weights is not None:
            from vpolicy_uva.initial import load_initial

            load_initial(self, options.initial_weights)

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Offsets of the predicted frames; the present one is not among them."""
        return self.window.future

    @property
    def predicted_cameras(self) -> tuple[str, ...]:
        """The cameras whose future is predicted, in the order of the views."""
        if self.views_in_clip > 1:
            return tuple(self.cameras)
        return tuple(self.cameras[index] for index in self.transformer.predicted)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return decayed(self)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the mode ``video`` or ``forward``, for windows with or without actions."""
        mode: Mode = "forward" if self.options.forward else "video"
        conditioning, future = self.practise(batch, [mode] * len(batch))
        joint = self.transformer(conditioning)
        video = self.video_loss(joint, conditioning, future, batch) + untouched(self)
        return {"video": video, **self.state_losses(joint, batch)}

    def state_losses(self, joint: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The loss ``proprioception`` of the states to come, where they are predicted.

        Args:
            joint: ``(B, T S, D)``.
            batch: With the states.

        Raises:
            RecipeError: There are none.
        """
        if self.state_prediction is None:
            return {}
        states, there = batch.future_state, batch.future_state_mask
        if states is None or there is None:
            raise RecipeError(
                "The joint model predicts proprioception, but the windows have no states to come.",
                "Set `predict_proprioception: null`, or use data with a state.",
            )
        mask = there if self.options.future_mask else torch.ones_like(there)
        return {"proprioception": self.state_prediction.loss(joint, states, mask)}

    def practise(self, batch: Batch, modes: Sequence[Mode]) -> tuple[Conditioning, Tensor | None]:
        """What training conditions the transformer on, one mode a row, with the dropout of training.

        Draws come from torch's global generator.

        Returns:
            The conditioning, and the latents ``(B, W, T, S, c)`` of the predicted views' future where any row needs
            them.
        """
        device, rows = self.transformer.fuse.weight.device, len(batch)
        practised = [MODES[mode] for mode in modes]

        def rows_that(flags: list[bool]) -> Tensor:
            return to_device(torch.tensor(flags), device)

        conditioning = self._known(batch.observation, None, drawn=self.training)
        conditioning.history_hidden = rows_that([not one.history for one in practised])
        future = None
        if any(one.future != "hidden" for one in practised):
            future = self._clips(self._encode([batch.future[name] for name in self.predicted_cameras], None))
            masked = to_device(masked_cells(rows, self.transformer.cells, self.options.mask_ratio_min), device)
            conditioning.future = future
            conditioning.future_hidden = torch.where(
                rows_that([one.future == "masked" for one in practised])[:, None],
                masked,
                rows_that([one.future == "hidden" for one in practised])[:, None],
            )
        if batch.actions is not None and batch.action_mask is not None and any(one.actions for one in practised):
            chunk = self.options.chunk
            conditioning.actions = batch.actions[:, :chunk]
            conditioning.actions_hidden = ~(
                batch.action_mask[:, :chunk] & rows_that([one.actions for one in practised])[:, None]
            )
        if self.training and conditioning.past_hidden is not None:
            drawn = to_device(torch.rand(conditioning.past_hidden.shape), device)
            conditioning.past_hidden |= drawn < self.options.past_action_drop
        if self.training and conditioning.text_hidden is not None:
            conditioning.text_hidden |= to_device(torch.rand(rows), device) < self.options.text_drop
        return conditioning, future

    def video_loss(
        self, joint: Tensor, conditioning: Conditioning, future: Tensor | None, batch: Batch, rows: Tensor | None = None
    ) -> Tensor:
        """Loss of the video heads over masked tokens, summed over the views.

        Args:
            joint: ``(B, T S, D)``.
            conditioning, future: From `practise`.
            batch: For which frames are there.
            rows: ``(B,)``, which rows count; None for all.
        """
        assert future is not None and conditioning.future_hidden is not None
        counted = conditioning.future_hidden[:, None].expand(-1, self.transformer.frames, -1)
        if self.options.future_mask and batch.future_mask is not None:
            counted = counted & batch.future_mask.repeat(1, self.views_in_clip)[..., None]
        if rows is not None:
            counted = counted & rows[:, None, None]
        where = counted.flatten(1).nonzero(as_tuple=True)  # once: a device has to be asked how many there are
        targets = future.flatten(2, 3).unbind(dim=1)
        pairs = zip(self.video_heads, targets, strict=True)
        errors = [head.losses(target[where], joint[where]).sum() for head, target in pairs]
        return torch.stack(errors).sum() / max(1, len(where[0]))

    def seen(self, observation: Observation, generator: RowGenerator | None) -> Conditioning:
        """What the transformer is conditioned on when acting: the future and its actions are hidden."""
        return self._known(observation, generator)

    @torch.no_grad()
    def inferred(
        self, frames: dict[str, Tensor], observation: Observation | None, generator: RowGenerator | None
    ) -> Conditioning:
        """What inverse dynamics is conditioned on: future frames per camera ``(B, F, 3, H, W)``, and no history of
        the first view.

        Raises:
            RecipeError: The model needs more than the frames, and there is no observation.
        """
        future = self._clips(self._encode([frames[name] for name in self.predicted_cameras], generator))
        rows, device = len(future), future.device
        bare = len(self.seen_cameras) == self.views_in_clip or self.transformer.hides_all
        if observation is None and not (bare and not self.options.proprioception):
            raise RecipeError(
                "Inverse dynamics of this model sees the other cameras' history and the state besides the frames.",
                "Give the observation too, or train with `joint.inverse_hides: all` and without proprioception.",
            )
        if observation is None:
            shape = (rows, len(self.seen_cameras) // self.views_in_clip, *future.shape[2:])
            conditioning = Conditioning(future.new_zeros(shape), torch.ones(rows, dtype=torch.bool, device=device))
            if self.text is not None:
                conditioning.text = future.new_zeros(rows, self.transformer.text_in.in_features)
                conditioning.text_hidden = torch.ones_like(conditioning.history_hidden)
        else:
            conditioning = self.seen(observation, generator)
            conditioning.history_hidden = torch.ones_like(conditioning.history_hidden)
        conditioning.future = future
        conditioning.future_hidden = torch.zeros(rows, self.transformer.cells, dtype=torch.bool, device=device)
        return conditioning

    @torch.no_grad()
    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Predicted frames ``(B, W, F, 3, H, W)`` uint8 of the predicted cameras, at the offsets ``clip_offsets``.

        Args:
            observation: What is seen.
            generator: Noise of the rows.
            actions: Normalised ``(B, H, A)``: forward dynamics. None: what the model itself expects.
            steps: Autoregressive steps, 1 to the number of cells; None: as the options say.
            guidance: Of the instruction; None: 1, which is none.

        Raises:
            ValueError: There are too many steps, too few actions, or there is guidance without an instruction.
        """
        conditioning = self.seen(observation, generator)
        if actions is not None:
            chunk = self.options.chunk
            if actions.shape[1] < chunk:
                raise ValueError(f"{actions.shape[1]} actions do not reach the last frame, which {chunk} lead to")
            conditioning.actions = actions[:, :chunk]
            conditioning.actions_hidden = conditioning.actions.isnan().any(dim=-1)
        guidance = 1.0 if guidance is None else guidance
        if guidance != 1 and self.text is None:
            raise ValueError("guidance is of the instruction, and this model reads none")
        order = normal_noise((len(observation), self.transformer.cells), conditioning.history, generator).argsort(dim=1)
        latents = self.generate(conditioning, order, generator, steps or self.options.video_steps, guidance)
        latents = latents.flatten(1, 2).unflatten(1, (-1, self.options.frames))  # by camera again
        images = self.latent.decode(self._images(latents).flatten(0, 2)).unflatten(0, latents.shape[:3])
        return to_bytes(images.clamp(-1, 1))

    def generate(
        self,
        conditioning: Conditioning,
        order: Tensor,
        generator: RowGenerator | None,
        steps: int = 1,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predicted latents ``(B, W, T, S, c)``, revealed in steps (``sample_tokens``).

        Args:
            conditioning: What is known; its future is filled on the way.
            order: ``(B, S)`` cells, the first of them revealed last.
            generator: Noise of the rows.
            steps: Autoregressive steps.
            guidance: Reached by the last step, growing with the share of cells that are revealed.
        """
        if not self.video_heads:
            raise RecipeError("This model predicts no video: joint.video is null.", "Train it with a video head.")
        rows, cells, frames = len(order), self.transformer.cells, self.transformer.frames
        shape = (rows, len(self.video_heads), frames, cells, self.options.latent.latent_channels)
        conditioning.future = conditioning.history.new_zeros(shape)
        hidden = torch.ones(rows, cells, dtype=torch.bool, device=order.device)
        first_cells = torch.arange(frames, device=order.device) * cells  # of every frame, among the cells of all
        each = torch.arange(rows, device=order.device)[:, None]
        for before, left in pairwise([cells, *left_hidden(cells, steps)]):
            conditioning.future_hidden = hidden
            # Which and how many is known without asking the device: a mask would have to be counted there.
            revealed = order[:, left:before].sort(dim=1).values
            where = (first_cells[:, None] + revealed[:, None]).flatten(1)
            # The official schedule counts one cell as hidden still when the last one is drawn.
            scale = 1 + (guidance - 1) * (cells - max(1, left)) / cells
            branches = [(weight, joint[each, where]) for weight, joint in self.branches(conditioning, scale)]
            future = conditioning.future.clone()
            for place, head in enumerate(self.video_heads):
                tokens = future[:, place].view(rows, frames * cells, -1)
                tokens[each, where] = head.sample(branches, generator)
            conditioning.future = future
            hidden = hidden.scatter(1, revealed, False)
        conditioning.future_hidden = hidden
        return conditioning.future

    def branches(self, conditioning: Conditioning, guidance: float) -> list[tuple[float, Tensor]]:
        """Weighted joint latents ``(B, T S, D)``; those without and with the instruction as one batch."""
        if guidance == 1:
            return [(1.0, self.transformer(conditioning))]
        unconditional, conditional = 1 - guidance, guidance
        with_text, without = self.transformer(conditioning.twice()).chunk(2)
        return [(unconditional, without), (conditional, with_text)]

    def _known(self, observation: Observation, generator: RowGenerator | None, drawn: bool = False) -> Conditioning:
        """History, past actions, states and text; the history's frames are drawn where the options say so."""
        frames = self._history_frames(drawn)
        # A list of places would have to be brought to the device.
        seen = [observation.images[name] for name in self.seen_cameras]
        views = [torch.stack([images[:, frame] for frame in frames], dim=1) for images in seen]
        history = self._encode(views, generator)
        if history.shape[2] == 1:
            history = history.expand(-1, -1, self.options.frames, -1, -1)
        history = self._clips(history)
        rows, device = len(history), history.device
        conditioning = Conditioning(history, torch.zeros(rows, dtype=torch.bool, device=device))
        if (past := observation.past_actions) is not None and self.options.past_actions:
            conditioning.past_actions, conditioning.past_hidden = past, past.isnan().any(dim=-1)
        if self.options.proprioception:
            own, observed = self.options.state_offsets, self.window.observed
            states = frames if own == self.options.history else [observed.index(offset) for offset in own]
            conditioning.state = required_state(observation, "The joint model")[:, states]
        if self.text is not None:
            conditioning.text = self.text(observation.instructions).pooled.to(history)
            conditioning.text_hidden = torch.zeros_like(conditioning.history_hidden)
        return conditioning

    def _history_frames(self, drawn: bool) -> list[int]:
        """Places of the history's frames among those observed.

        Drawn ones are the same for all rows: any of all ascending choices with repetition, the last one the present.
        """
        observed = self.window.observed
        if not (drawn and self.options.random_history):
            return [observed.index(offset) for offset in self.options.history]
        free = self.options.frames - 1
        places = torch.randperm(len(observed) + free - 1)[:free].sort().values - torch.arange(free)
        return [*places.tolist(), len(observed) - 1]

    def _encode(self, views: list[Tensor], generator: RowGenerator | None) -> Tensor:
        """Bytes per view ``(B, T, 3, H, W)`` to latents ``(B, V, T, S, c)``.

        What acts remembers images; what learns sees too many of them.
        """
        moments = []
        for view in views:
            images = view.flatten(0, 1).to(self.transformer.fuse.weight.device)
            with torch.no_grad():
                found = (
                    self._memory.moments(images)
                    if self.latent.costly and generator is not None
                    else self.latent.moments(to_pixels(images, self.options.image_size))
                )
            moments.append(found.unflatten(0, view.shape[:2]))
        latents = self.latent.draw(torch.stack(moments, dim=1), generator)
        return latents.flatten(-2).transpose(-1, -2)

    def _clips(self, latents: Tensor) -> Tensor:
        """Latents ``(B, V, F, S, c)`` by camera as the transformer sees them, concatenated views as one clip."""
        return latents.flatten(1, 2).unflatten(1, (-1, self.transformer.frames))

    def _images(self, latents: Tensor) -> Tensor:
        """Tokens ``(..., S, c)`` as maps ``(..., c, h, w)``."""
        return latents.transpose(-1, -2).unflatten(-1, self.options.grid)


def decayed(module: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups without weight decay on vectors and biases (``add_weight_decay``)."""
    trained = [(name, one) for name, one in module.named_parameters() if one.requires_grad]
    vectors = [one for name, one in trained if one.ndim == 1 or name.endswith(".bias")]
    others = [one for name, one in trained if not (one.ndim == 1 or name.endswith(".bias"))]
    return [{"params": vectors, "weight_decay": 0.0}, {"params": others}]


def untouched(module: nn.Module) -> Tensor:
    """0, with a gradient of 0 for every trained parameter: modes leave some out, and data-parallel training and the
    optimiser's momentum want one for each (``compute_loss``)."""
    return torch.stack([one.sum() for one in module.parameters() if one.requires_grad]).sum() * 0
