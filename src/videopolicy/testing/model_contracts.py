"""Contracts of the text encoder, whatever learns, the video backbone and the whole policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from videopolicy.components.kinds import BackboneComponent, LearnerComponent, PolicyComponent, TextComponent
from videopolicy.contracts.backbone import Denoised, VideoBackbone
from videopolicy.contracts.learner import Learner
from videopolicy.contracts.policy import InfersActions, Policy, PredictsVideo
from videopolicy.contracts.text import TextEncoder
from videopolicy.spaces import Spaces
from videopolicy.testing.component_contract import (
    ComponentContract,
    built,
    equal,
    fits,
    generators,
    healthy,
    mixed,
    reloads,
    trains,
)
from videopolicy.testing.toy_data import toy_batch, toy_observation
from videopolicy.types import Observation, Window

SENTENCES = ["open the drawer", "", "Xylophonize the ZQF-9 quickly!", "push " * 200]


class TextContract(ComponentContract):
    """A text encoder reads any sentence."""

    @pytest.fixture
    def encoder(self, component: TextComponent) -> TextEncoder:
        return built(component.build)

    def test_reads_any_sentence(self, component: TextComponent, encoder: TextEncoder) -> None:
        encoded = encoder(SENTENCES)
        healthy(encoded.tokens, (len(SENTENCES), component.length, component.dim), "`tokens`")
        healthy(encoded.pooled, (len(SENTENCES), component.pooled_dim), "`pooled`")

    def test_tells_sentences_apart(self, encoder: TextEncoder) -> None:
        pooled = encoder(["open the drawer", "close the window"]).pooled
        assert not torch.allclose(pooled[0], pooled[1]), "Two different sentences are encoded alike."

    def test_a_sentence_does_not_depend_on_its_batch(self, encoder: TextEncoder) -> None:
        with torch.no_grad():
            one, other = encoder(["open it", "push", "push"]), encoder(["open it", "a much longer sentence", ""])
        equal(one.tokens[0], other.tokens[0], "The tokens of a sentence depend on the others in its batch")
        equal(one.pooled[0], other.pooled[0], "The vector of a sentence depends on the others in its batch")


def declares_its_video(learner: Learner, spaces: Spaces) -> None:
    """What predicts video says so in full, else nobody asks it to."""
    if not hasattr(learner, "predict_video"):
        return
    assert isinstance(learner, PredictsVideo), (
        "It has `predict_video`, but lacks `clip_offsets` or `predicted_cameras`: see `videopolicy.PredictsVideo`."
    )
    unknown = set(learner.predicted_cameras) - {camera.name for camera in spaces.cameras}
    assert not unknown, f"`predicted_cameras` names {', '.join(sorted(unknown))}, which the spaces do not have."


class LearnerContract(ComponentContract):
    """Something that a stage trains on its own."""

    @pytest.fixture
    def learner(self, component: LearnerComponent, spaces: Spaces) -> Learner:
        fits(component.check(spaces))
        return built(lambda: component.build(spaces))

    def test_declares_what_it_builds(self, component: LearnerComponent, learner: Learner, spaces: Spaces) -> None:
        assert component.window() == learner.window, "`window` of the component and of the model differ."
        declares_its_video(learner, spaces)

    def test_trains_all_that_is_trainable(self, learner: Learner, spaces: Spaces) -> None:
        trains(learner, lambda step: learner.loss(toy_batch(spaces, learner.window, step)), learner.parameter_groups())

    def test_state_dict_carries_everything(self, component: LearnerComponent, spaces: Spaces) -> None:
        def output(learner: Learner) -> torch.Tensor:
            torch.manual_seed(0)
            with torch.no_grad():
                return torch.stack(list(learner.loss(toy_batch(spaces, learner.window)).values()))

        reloads(lambda: component.build(spaces), output)


class BackboneContract(ComponentContract):
    """A video model encodes, decodes and denoises clips, and shows its insides."""

    @pytest.fixture
    def backbone(self, component: BackboneComponent, spaces: Spaces) -> VideoBackbone:
        fits(component.check(spaces))
        return built(lambda: component.build(spaces))

    def _denoise(self, backbone: VideoBackbone, observation: Observation, **options: Any) -> Denoised:
        noisy = generators(len(observation)).randn(backbone.latent_shape, torch.zeros(())) * backbone.highest_level
        level = torch.full((len(observation),), backbone.highest_level)
        with torch.no_grad():
            condition = backbone.condition(observation, generator=generators(len(observation)))
            return backbone.denoise(noisy, level, condition, **options)

    def test_encodes_and_decodes(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        latents = torch.randn(2, *backbone.latent_shape)
        with torch.no_grad():
            frames = backbone.decode(latents)
            again = backbone.encode(frames.clamp(-1, 1))
        leading = tuple(frames.shape[:4])
        axes = dict(next(iter(backbone.tap_specs.values())).axes)
        assert frames.ndim == 6 and leading == (2, len(spaces.cameras), axes["frames"], 3), (
            f"`decode` turns latents {tuple(latents.shape)} into {tuple(frames.shape)}, not (B, V, T, 3, H, W)."
        )
        healthy(again, tuple(latents.shape), "`encode` of decoded frames")
        counted = backbone.frame_axes
        assert counted and backbone.latent_shape[: len(counted)] == counted, (
            f"`frame_axes` {counted} are not the leading sizes of `latent_shape` {backbone.latent_shape}."
        )

    def test_declares_what_it_builds(
        self, component: BackboneComponent, backbone: VideoBackbone, spaces: Spaces
    ) -> None:
        assert component.taps() == backbone.tap_specs, "`taps` of the component and `tap_specs` of the model differ."
        assert component.window() == Window(backbone.window.observed, backbone.window.future), (
            "`window` of the component and of the model differ in their frames."
        )
        declares_its_video(backbone, spaces)
        assert backbone.highest_level > 0, f"`highest_level` is {backbone.highest_level}; a level is a sigma above 0."

    def test_denoises_and_shows_taps(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        observation = toy_observation(spaces, backbone.window)
        found = self._denoise(backbone, observation, taps=list(backbone.tap_specs))
        assert found.prediction is not None, "`denoise` gave no prediction although one was asked for."
        healthy(found.prediction, (2, *backbone.latent_shape), "The prediction")
        assert set(found.taps) == set(backbone.tap_specs), "`denoise` returned other taps than it was asked for."
        for name, spec in backbone.tap_specs.items():
            sizes = dict(spec.axes)
            expected = (2, len(spaces.cameras), sizes["frames"], spec.dim, sizes["height"], sizes["width"])
            healthy(found.taps[name], expected, f"Tap '{name}'")
        early = self._denoise(backbone, observation, taps=list(backbone.tap_specs), predict=False)
        for name in backbone.tap_specs:
            equal(early.taps[name], found.taps[name], f"Without `predict`, tap '{name}'")

    def test_the_level_matters_and_guidance_is_possible(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        observation = toy_observation(spaces, backbone.window)
        latents = torch.randn(2, *backbone.latent_shape)
        low, high = torch.full((2,), backbone.highest_level / 10), torch.full((2,), backbone.highest_level)
        with torch.no_grad():
            conditional, unconditional = (
                backbone.condition(observation, dropped, generators(2)) for dropped in (False, True)
            )
            first, second, third = (
                backbone.denoise(latents, level, condition).prediction
                for level, condition in ((high, conditional), (low, conditional), (high, unconditional))
            )
        assert first is not None and second is not None and third is not None
        assert not torch.equal(first, second), "The prediction does not depend on the level."
        healthy(third, tuple(first.shape), "The prediction under the unconditional condition")
        assert not torch.equal(first, third), (
            "`condition` gives the same with and without `unconditional`: guidance would change nothing."
        )

    def test_branches_run_as_one_batch(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        observation = toy_observation(spaces, backbone.window)
        latents = torch.randn(2, *backbone.latent_shape)
        level = torch.full((2,), backbone.highest_level)
        with torch.no_grad():
            branches = [
                backbone.condition(observation, unconditional, generators(2)) for unconditional in (True, False)
            ]
            alone = [backbone.denoise(latents, level, condition).prediction for condition in branches]
            joined = backbone.denoise(
                latents.repeat(2, *[1] * (latents.ndim - 1)), level.repeat(2), backbone.join(branches)
            )
        assert joined.prediction is not None
        for row, prediction in zip(joined.prediction.split(2), alone, strict=True):
            assert prediction is not None
            assert torch.allclose(row, prediction, atol=1e-4), "Two conditions that are joined give another prediction."

    def test_the_level_is_embedded_alike(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        found = self._denoise(backbone, toy_observation(spaces, backbone.window)).step_embedding
        with torch.no_grad():
            embedded = backbone.embed_level(torch.full((2,), backbone.highest_level))
        assert (found is None) == (embedded is None), "`embed_level` and `denoise` disagree about a step embedding."
        if found is not None and embedded is not None:
            assert torch.allclose(found, embedded, atol=1e-5), "`embed_level` is not the step embedding of `denoise`."

    def test_training_is_at_any_level(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        clip = backbone.training_clip(toy_batch(spaces, backbone.window))
        assert tuple(clip.latents.shape) == (2, *backbone.latent_shape), (
            f"`training_clip` has latents {tuple(clip.latents.shape)}, not {(2, *backbone.latent_shape)}."
        )
        for sigma in (0.1, backbone.highest_level):
            level = torch.full((2,), sigma)
            with torch.no_grad():
                prediction = backbone.denoise(clip.latents + sigma, level, clip.condition).prediction
            assert prediction is not None
            healthy(backbone.error(prediction, clip, level), (), f"The loss at level {sigma}")
            perfect = backbone.error(clip.latents, clip, level)
            assert float(perfect) < 1e-6, f"A perfect prediction has the loss {float(perfect)} at level {sigma}, not 0."

    def test_a_row_does_not_depend_on_its_batch(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        first, second = (toy_observation(spaces, backbone.window, seed, batch_size=3) for seed in (0, 1))
        one = self._denoise(backbone, first, taps=list(backbone.tap_specs))
        other = self._denoise(backbone, mixed(first, second), taps=list(backbone.tap_specs))
        assert one.prediction is not None and other.prediction is not None
        equal(one.prediction[0], other.prediction[0], "The prediction of a row depends on the others in its batch")

    def test_trains_all_that_is_trainable(self, backbone: VideoBackbone, spaces: Spaces) -> None:
        trains(
            backbone,
            lambda step: backbone.loss(toy_batch(spaces, backbone.window, step)),
            backbone.parameter_groups(),
        )

    def test_state_dict_carries_everything(self, component: BackboneComponent, spaces: Spaces) -> None:
        def output(backbone: VideoBackbone) -> torch.Tensor:
            found = self._denoise(backbone, toy_observation(spaces, backbone.window)).prediction
            assert found is not None
            return found

        reloads(lambda: component.build(spaces), output)


def repeated(observation: Observation, row: int) -> Observation:
    """One row in the place of all, the only one that is asked about."""
    rows = [row] * len(observation)
    return replace(
        observation,
        images={name: images[rows] for name, images in observation.images.items()},
        instructions=[observation.instructions[row]] * len(rows),
        state=None if observation.state is None else observation.state[rows],
        past_actions=None if observation.past_actions is None else observation.past_actions[rows],
        rows=(row,),
    )


class PolicyContract(ComponentContract):
    """A policy turns observations into chunks of actions, reproducibly and row by row."""

    @pytest.fixture
    def policy(self, component: PolicyComponent, spaces: Spaces) -> Policy:
        fits(component.check(spaces))
        return built(lambda: component.build(spaces))

    def _act(self, policy: Policy, observation: Observation, seed: int = 0) -> torch.Tensor:
        torch.manual_seed(seed)  # torch's global generator must not matter
        policy.reset(list(range(len(observation))))
        return policy.act(observation, generators(len(observation)))

    def test_declares_what_it_builds(self, component: PolicyComponent, policy: Policy, spaces: Spaces) -> None:
        assert component.window() == policy.window, "`window` of the component and of the model differ."
        declares_its_video(policy, spaces)
        assert policy.window.horizon > 0, "A policy's window has a horizon of at least one action."

    def test_acts(self, policy: Policy, spaces: Spaces) -> None:
        shape = (3, policy.window.horizon, spaces.actions.dim)
        healthy(self._act(policy, toy_observation(spaces, policy.window, batch_size=3)), shape, "The chunk of actions")

    def test_infers_a_chunk_where_it_infers_actions(self, policy: Policy, spaces: Spaces) -> None:
        if not (isinstance(policy, InfersActions) and policy.practises_inverse):
            return
        assert policy.window.future, "It infers actions from the future frames of its `window`, which has none."
        batch = toy_batch(spaces, policy.window)
        found = policy.infer_actions(batch.future, generators(2), batch.observation)
        healthy(found, (2, policy.window.horizon, spaces.actions.dim), "What `infer_actions` returns")

    def test_same_generators_give_the_same_chunk(self, policy: Policy, spaces: Spaces) -> None:
        observation = toy_observation(spaces, policy.window)
        equal(
            self._act(policy, observation, seed=1),
            self._act(policy, observation, seed=2),
            "With the same generators, and after `reset`, the chunk (draw all noise from the rows' generators)",
        )

    def test_a_row_does_not_depend_on_its_batch(self, policy: Policy, spaces: Spaces) -> None:
        first, second = (toy_observation(spaces, policy.window, seed, batch_size=3) for seed in (0, 1))
        equal(
            self._act(policy, first)[0],
            self._act(policy, mixed(first, second))[0],
            "The chunk of a row depends on the others in its batch (batch statistics, or noise drawn for all rows)",
        )

    def test_rows_that_nobody_asks_about_are_left_alone(self, policy: Policy, spaces: Spaces) -> None:
        first, between, last = (toy_observation(spaces, policy.window, seed, batch_size=3) for seed in (0, 1, 2))
        chunks = []
        for asked in (False, True):
            self._act(policy, first)
            if asked:  # about row 0 alone, which the others repeat
                policy.act(repeated(between, 0), generators(3))
            chunks.append(policy.act(last, generators(3))[1:])
        equal(
            chunks[0],
            chunks[1],
            "The chunk of rows that were not asked about in an earlier call (see `Observation.rows`: what a policy "
            "remembers of the others must stay as it is)",
        )

    def test_acting_leaves_training_alone(self, policy: Policy, spaces: Spaces) -> None:
        before = {name: value.clone() for name, value in policy.state_dict().items()}
        self._act(policy, toy_observation(spaces, policy.window))
        for name, value in policy.state_dict().items():
            equal(value, before[name], f"Acting has changed '{name}' in the state dict")

    def test_trains_all_that_is_trainable(self, policy: Policy, spaces: Spaces) -> None:
        trains(policy, lambda step: policy.loss(toy_batch(spaces, policy.window, step)), policy.parameter_groups())

    def test_masked_actions_do_not_reach_the_loss(self, policy: Policy, spaces: Spaces) -> None:
        batch = toy_batch(spaces, policy.window)
        assert batch.actions is not None and batch.action_mask is not None
        values = []
        for filling in (0.0, float("nan")):  # clips without actions come with NaN
            batch.actions = torch.where(batch.action_mask[..., None], batch.actions, filling)
            torch.manual_seed(0)
            with torch.no_grad():
                values.append(torch.stack(list(policy.loss(batch).values())).sum())
        equal(values[0], values[1], "With other values in masked actions, the loss")

    def test_state_dict_carries_everything(self, component: PolicyComponent, spaces: Spaces) -> None:
        observation = toy_observation(spaces, component.window())
        reloads(lambda: component.build(spaces), lambda policy: self._act(policy, observation))
