"""Contracts of the feature extractor and the action decoder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from videopolicy.components.kinds import DecoderComponent, ExtractorComponent
from videopolicy.contracts.decoder import ActionDecoder
from videopolicy.contracts.extractor import CachesFeatures, FeatureExtractor, StaticStream
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
from videopolicy.types import Branch, FeatureLayout, Observation, Window

LEVELS = torch.tensor([4.0, 1.0, 0.25, 0.0])


class ExtractorContract(ComponentContract):
    """An extractor turns observations into a stream of features."""

    @pytest.fixture
    def extractor(self, component: ExtractorComponent, spaces: Spaces) -> FeatureExtractor:
        fits(component.check(spaces))
        return built(lambda: component.build(spaces))

    def _descend(self, extractor: FeatureExtractor, observation: Observation, seed: int = 0) -> list[list[Branch]]:
        torch.manual_seed(seed)  # torch's global generator must not matter
        with torch.no_grad():
            stream = extractor.stream(observation, None, generators(len(observation)))
            return [branches for _, _, branches in stream.descend(LEVELS)]

    def test_declares_what_it_builds(
        self, component: ExtractorComponent, extractor: FeatureExtractor, spaces: Spaces
    ) -> None:
        assert component.layout(spaces) == extractor.layout, (
            f"The component declares {component.layout(spaces)} and builds {extractor.layout}."
        )
        assert component.window() == extractor.window, "`window` of the component and of the model differ."
        assert extractor.window.horizon == 0, "An extractor's window has the horizon 0: actions are the decoder's."

    def test_features_have_the_declared_layout(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        observation = toy_observation(spaces, extractor.window, batch_size=3)
        for branches in self._descend(extractor, observation):
            _sound_branches(branches, extractor.layout, 3)
        batch = toy_batch(spaces, extractor.window, batch_size=3)
        stream = extractor.stream(batch.observation, batch)
        assert stream.layout == extractor.layout, "The stream and the extractor declare different layouts."
        _sound_branches(stream.at(torch.tensor([0.1, 1.0, 3.0])), extractor.layout, 3)

    def test_descends_through_the_given_levels_once(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        observation = toy_observation(spaces, extractor.window)
        with torch.no_grad():
            stream = extractor.stream(observation, None, generators(2))
            seen = [(float(level), float(following)) for level, following, _ in stream.descend(LEVELS)]
        expected = list(zip(LEVELS[:-1].tolist(), LEVELS[1:].tolist(), strict=True))
        assert seen == expected, f"`descend` yielded the levels {seen}, not {expected}."

    def test_same_generators_give_the_same_features(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        observation = toy_observation(spaces, extractor.window)
        one, other = self._descend(extractor, observation, seed=1), self._descend(extractor, observation, seed=2)
        for first, second in zip(_tokens(one), _tokens(other), strict=True):
            equal(first, second, "With the same generators, the features (draw all noise from the rows' generators)")

    def test_a_row_does_not_depend_on_its_batch(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        first, second = (toy_observation(spaces, extractor.window, seed, batch_size=3) for seed in (0, 1))
        one, other = self._descend(extractor, first), self._descend(extractor, mixed(first, second))
        for mine, theirs in zip(_tokens(one), _tokens(other), strict=True):
            equal(mine[0], theirs[0], "The features of a row depend on the others in its batch")

    def test_what_is_cached_is_what_is_computed(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        if not isinstance(extractor, CachesFeatures) or not extractor.features_are_frozen:
            pytest.skip("This extractor caches nothing as configured.")
        observation = toy_observation(spaces, extractor.window)
        computed = list(_tokens(self._descend(extractor, observation)))
        with torch.no_grad():
            observation.features = extractor.frozen_features(observation, generators(2))
        for direct, cached in zip(computed, _tokens(self._descend(extractor, observation)), strict=True):
            equal(direct, cached, "With `observation.features` filled from `frozen_features`, the features")

    def test_trains_all_that_is_trainable(self, extractor: FeatureExtractor, spaces: Spaces) -> None:
        def losses(step: int) -> dict[str, Tensor]:
            batch = toy_batch(spaces, extractor.window, step)
            stream = extractor.stream(batch.observation, batch)
            # A weighted sum of the tokens, so that a final normalisation does not hide the gradient.
            tokens = torch.cat([branch.tokens for branch in stream.at(torch.tensor([0.5, 2.0]))])
            return {"tokens": (tokens * torch.randn_like(tokens)).mean(), **stream.losses}

        trainable = [parameter for parameter in extractor.parameters() if parameter.requires_grad]
        trains(extractor, losses, [{"params": trainable}])

    def test_state_dict_carries_everything(self, component: ExtractorComponent, spaces: Spaces) -> None:
        observation = toy_observation(spaces, component.window())
        reloads(
            lambda: component.build(spaces),
            lambda extractor: torch.stack(list(_tokens(self._descend(extractor, observation)))),
        )


class DecoderContract(ComponentContract):
    """A decoder turns a stream of features into chunks of actions."""

    @pytest.fixture
    def layout(self) -> FeatureLayout:
        """The features that the decoder is given; authors whose decoder needs others override this."""
        return FeatureLayout(dim=16, axes=(("frames", 2), ("height", 2), ("width", 2)))

    @pytest.fixture
    def decoder(self, component: DecoderComponent, layout: FeatureLayout, spaces: Spaces) -> ActionDecoder:
        fits(component.check(layout, spaces))
        return built(lambda: component.build(layout, spaces))

    def _sample(self, decoder: ActionDecoder, stream: StaticStream, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)  # torch's global generator must not matter
        with torch.no_grad():
            return decoder.sample(stream, generators(len(stream.observation)))

    def test_samples_chunks(
        self, component: DecoderComponent, decoder: ActionDecoder, layout: FeatureLayout, spaces: Spaces
    ) -> None:
        stream = RecordingStream.random(layout, spaces, rows=3)
        shape = (3, component.horizon, spaces.actions.dim)
        healthy(self._sample(decoder, stream), shape, "The chunk of actions")
        assert stream.descents <= 1, f"`sample` called `descend` {stream.descents} times; a stream descends once."

    def test_loss_is_a_finite_scalar_without_masked_actions(
        self, decoder: ActionDecoder, layout: FeatureLayout, component: DecoderComponent, spaces: Spaces
    ) -> None:
        batch = toy_batch(spaces, Window(horizon=component.horizon))
        assert batch.actions is not None and batch.action_mask is not None
        values = []
        for filling in (0.0, float("nan")):  # clips without actions come with NaN
            actions = torch.where(batch.action_mask[..., None], batch.actions, filling)
            torch.manual_seed(0)
            values.append(decoder.loss(RecordingStream.random(layout, spaces), actions, batch.action_mask))
        healthy(values[0].detach(), (), "The loss")
        equal(values[0].detach(), values[1].detach(), "With other values in masked actions, the loss")
        _backward(decoder, values[1], "NaN in masked actions")

    def test_a_batch_without_any_action_teaches_nothing(
        self, decoder: ActionDecoder, layout: FeatureLayout, component: DecoderComponent, spaces: Spaces
    ) -> None:
        batch = toy_batch(spaces, Window(horizon=component.horizon))
        assert batch.actions is not None and batch.action_mask is not None
        nothing, actions = torch.zeros_like(batch.action_mask), torch.full_like(batch.actions, torch.nan)
        loss = decoder.loss(RecordingStream.random(layout, spaces), actions, nothing)
        assert float(loss.detach()) == 0, f"Without any action the loss is {float(loss.detach())}, not 0."
        _backward(decoder, loss, "no action at all")

    def test_same_generators_give_the_same_chunk(
        self, decoder: ActionDecoder, layout: FeatureLayout, spaces: Spaces
    ) -> None:
        stream = RecordingStream.random(layout, spaces)
        equal(
            self._sample(decoder, stream, seed=1),
            self._sample(decoder, stream, seed=2),
            "With the same generators, the chunk (draw all noise from the rows' generators)",
        )

    def test_a_row_does_not_depend_on_its_batch(
        self, decoder: ActionDecoder, layout: FeatureLayout, spaces: Spaces
    ) -> None:
        first, second = (RecordingStream.random(layout, spaces, seed, rows=3) for seed in (0, 1))
        branches = [
            Branch(
                mine.weight,
                torch.cat([mine.tokens[:1], theirs.tokens[1:]]),
                torch.cat([mine.step_embedding[:1], theirs.step_embedding[1:]])
                if mine.step_embedding is not None and theirs.step_embedding is not None
                else None,
            )
            for mine, theirs in zip(first.branches, second.branches, strict=True)
        ]
        other = StaticStream(mixed(first.observation, second.observation), layout, branches)
        equal(
            self._sample(decoder, first)[0],
            self._sample(decoder, other)[0],
            "The chunk of a row depends on the others in its batch (batch statistics, or noise drawn for all rows)",
        )

    def test_guidance_is_a_weighted_sum(self, decoder: ActionDecoder, layout: FeatureLayout, spaces: Spaces) -> None:
        stream, other = (RecordingStream.random(layout, spaces, seed) for seed in (0, 1))
        guided = StaticStream(
            stream.observation,
            layout,
            [Branch(0.0, other.branches[0].tokens, other.branches[0].step_embedding), stream.branches[0]],
        )
        plain, weighted = self._sample(decoder, stream), self._sample(decoder, guided)
        assert torch.allclose(plain, weighted, atol=1e-4), (
            "A branch of weight 0 changes the actions: predictions of all branches must be summed by their weights."
        )
        guided.branches = guided.branches[::-1]
        assert torch.allclose(plain, self._sample(decoder, guided), atol=1e-4), (
            "With its two branches in the other order, the one of weight 0 changes the actions."
        )

    def test_guidance_follows_its_weights(
        self, component: DecoderComponent, decoder: ActionDecoder, layout: FeatureLayout, spaces: Spaces
    ) -> None:
        with torch.no_grad():  # as training would: some networks begin with features that do not matter
            for number, parameter in enumerate(decoder.parameters()):
                generator = torch.Generator().manual_seed(number)
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        one, other = (RecordingStream.random(layout, spaces, seed) for seed in (0, 1))

        def sample(*weights: tuple[float, float | None]) -> Tensor:
            branches = [
                Branch(weight, stream.branches[0].tokens, stream.branches[0].step_embedding, last)
                for stream, (weight, last) in zip((one, other), weights, strict=True)
            ]
            return self._sample(decoder, StaticStream(one.observation, layout, branches))

        second, guided = sample((0.0, None), (1.0, None)), sample((-2.0, None), (3.0, None))
        if torch.equal(sample((1.0, None), (0.0, None)), second):
            pytest.skip("This decoder does not look at its features.")
        assert not torch.equal(second, guided), (
            "Weights of -2 and 3 give the actions of 0 and 1: the scale of guidance is ignored. Sum the predictions "
            "with `weighted_sum`."
        )
        if component.horizon > 1:
            assert not torch.equal(guided, sample((-2.0, 0.0), (3.0, 1.0))), (
                "`last_weight` changes nothing: weights may change over the chunk. Sum the predictions with "
                "`weighted_sum`."
            )

    def test_trains_all_that_is_trainable(
        self, decoder: ActionDecoder, layout: FeatureLayout, component: DecoderComponent, spaces: Spaces
    ) -> None:
        def losses(step: int) -> dict[str, Tensor]:
            batch = toy_batch(spaces, Window(horizon=component.horizon), step)
            assert batch.actions is not None and batch.action_mask is not None
            return {
                "action": decoder.loss(RecordingStream.random(layout, spaces, step), batch.actions, batch.action_mask)
            }

        trainable = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
        trains(decoder, losses, [{"params": trainable}])

    def test_state_dict_carries_everything(
        self, component: DecoderComponent, layout: FeatureLayout, spaces: Spaces
    ) -> None:
        reloads(
            lambda: component.build(layout, spaces),
            lambda decoder: self._sample(decoder, RecordingStream.random(layout, spaces)),
        )


class RecordingStream(StaticStream):
    """Random features that check how they are read."""

    descents = 0

    @classmethod
    def random(cls, layout: FeatureLayout, spaces: Spaces, seed: int = 0, rows: int = 2) -> RecordingStream:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(rows, layout.tokens, layout.dim, generator=generator)
        step = torch.randn(rows, layout.step_embedding, generator=generator) if layout.step_embedding else None
        observation = toy_observation(spaces, Window(), seed, batch_size=rows)
        return cls(observation, layout, [Branch(1.0, tokens, step)])

    def at(self, level: Tensor) -> list[Branch]:
        rows = len(self.observation)
        assert tuple(level.shape) == (rows,), f"`at` was given levels of shape {tuple(level.shape)}, not ({rows},)."
        assert torch.isfinite(level).all() and (level >= 0).all(), f"`at` was given the levels {level.tolist()}."
        return super().at(level)

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        self.descents += 1
        assert levels.ndim == 1 and len(levels) > 1 and (levels[1:] < levels[:-1]).all() and levels[-1] >= 0, (
            f"`descend` was given {levels.tolist()}; levels fall from step to step and end at 0 or above."
        )
        return super().descend(levels)


def _backward(decoder: ActionDecoder, loss: Tensor, what: str) -> None:
    loss.backward()
    for name, parameter in decoder.named_parameters():
        gradient = parameter.grad
        assert gradient is None or torch.isfinite(gradient).all(), (
            f"With {what}, the gradient of '{name}' is not finite."
        )


def _tokens(steps: list[list[Branch]]) -> Iterator[Tensor]:
    for branches in steps:
        yield torch.cat([branch.tokens for branch in branches], dim=1)


def _sound_branches(branches: list[Branch], layout: FeatureLayout, rows: int) -> None:
    assert branches, "The stream gave no branch of features."
    total = sum(branch.weight for branch in branches)
    assert abs(total - 1) < 1e-6, f"The weights of the branches sum to {total}, not to 1."
    for branch in branches:
        healthy(branch.tokens, (rows, layout.tokens, layout.dim), f"The features, declared as {layout},")
        if layout.step_embedding:
            assert branch.step_embedding is not None, "The layout declares a step embedding, and the branch has none."
            healthy(branch.step_embedding, (rows, layout.step_embedding), "The step embedding")
