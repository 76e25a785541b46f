"""Diffusion heads and the action decoder: against diffusers' sampler and torch's distributions, and step by step."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from vpolicy_uva import head as head_module
from vpolicy_uva.action import UvaActionDecoder
from vpolicy_uva.aggregation import aggregation
from vpolicy_uva.components import UvaAction
from vpolicy_uva.diffusion import Diffusion, TemperedScheduler, cosine_signal
from vpolicy_uva.head import DiffusionHead
from vpolicy_uva.options import ActionHead

from videopolicy import ActionSpace, Branch, FeatureLayout, Observation, RowGenerator, Spaces, StaticStream
from videopolicy.testing.toy_data import toy_spaces

ROWS, VECTORS, CHANNELS, WIDTH = 2, 3, 4, 6
SMALL = ActionHead(width=16, depth=2, sampling_steps=5)
GRID = FeatureLayout(WIDTH, (("frames", 4), ("height", 8), ("width", 8)))


@pytest.fixture
def head() -> DiffusionHead:
    return made()


def made(options: ActionHead = SMALL) -> DiffusionHead:
    """A head none of whose layers is zero."""
    torch.manual_seed(0)
    return randomised(DiffusionHead(options, CHANNELS, WIDTH))


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 / parameter[0].numel() ** 0.5))
    return module.eval()


def seeded(*seeds: int) -> RowGenerator:
    return RowGenerator.from_seeds(list(seeds))


class TestSampler:
    @pytest.mark.parametrize("clip", [None, 1.0, 1.5])
    def test_is_that_of_diffusers_at_temperature_one(self, clip: float | None) -> None:
        steps, shape = 16, (7, 3)
        generator = torch.Generator().manual_seed(0)
        theirs = DDPMScheduler(
            1000,
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            prediction_type="epsilon",
            timestep_spacing="linspace",
            clip_sample=clip is not None,
            clip_sample_range=clip or 1.0,
        )
        theirs.set_timesteps(steps)
        ours = TemperedScheduler(1000, steps, temperature=1.0, clip=clip)
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
        one = other = torch.randn(shape, generator=generator)
        for index, timestep in enumerate(theirs.timesteps):
            output = torch.randn(7, 6, generator=generator) * 0.3
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(index))
            one = ours.advance(index, output, one, noise)
            drawn = torch.Generator().manual_seed(index)
            other = theirs.step(output, int(timestep), other, generator=drawn).prev_sample
            torch.testing.assert_close(one, other, atol=1e-3 * float(other.abs().max()), rtol=0)

    def test_temperature_scales_the_noise(self) -> None:
        output, sample, noise = torch.zeros(1, 2), torch.ones(1, 1), torch.ones(1, 1)
        cold, cool, warm = (
            TemperedScheduler(1000, 10, temperature, clip=None).advance(4, output, sample, noise)
            for temperature in (0.0, 0.5, 1.0)
        )
        torch.testing.assert_close(warm - cold, 2 * (cool - cold))
        assert float(warm - cold) > 0.05

    def test_the_last_step_adds_no_noise(self) -> None:
        sampler = TemperedScheduler(1000, 10, 1.0, clip=None)
        one, other = (
            sampler.advance(9, torch.zeros(1, 2), torch.ones(1, 1), torch.full((1, 1), n)) for n in (0.0, 9.0)
        )
        assert torch.equal(one, other)


class TestLoss:
    def test_is_squared_error_and_divergence_in_bits(self) -> None:
        # Written down a second time with means and torch's distributions instead of their difference.
        diffusion, signal = Diffusion(1000), cosine_signal(1000)
        torch.manual_seed(0)
        clean, noise, output = torch.rand(3, 2) * 2 - 1, torch.randn(3, 2), torch.randn(3, 4) * 0.5
        timestep = torch.tensor([1, 400, 900])
        found = diffusion.losses(output, clean, timestep, noise)
        for row, t in enumerate(timestep.tolist()):
            now, before = signal[t], signal[t - 1]
            beta = 1 - now / before
            noisy = math.sqrt(now) * clean[row].double() + math.sqrt(1 - now) * noise[row].double()
            epsilon, fraction = output[row].double().chunk(2)
            predicted = (noisy - math.sqrt(1 - now) * epsilon) / math.sqrt(now)
            weights = math.sqrt(before) * beta / (1 - now), math.sqrt(now / before) * (1 - before) / (1 - now)
            low, high = math.log(beta * (1 - before) / (1 - now)), math.log(beta)
            posterior = torch.distributions.Normal(
                weights[0] * clean[row].double() + weights[1] * noisy, math.exp(low / 2)
            )
            deviation = ((low + (fraction + 1) / 2 * (high - low)) / 2).exp()
            model = torch.distributions.Normal(weights[0] * predicted + weights[1] * noisy, deviation)
            bits = torch.distributions.kl_divergence(posterior, model).mean() / math.log(2)
            expected = (noise[row].double() - epsilon).square().mean() + bits
            torch.testing.assert_close(found[row].double(), expected, rtol=1e-4, atol=1e-6)

    def test_the_first_timestep_counts_bins(self) -> None:
        # A prediction without error, whose deviation is far smaller than a bin, has likelihood 1.
        clean = torch.tensor([[0.0, -1.0, 1.0]])
        sharp = torch.cat([torch.zeros(1, 3), torch.full((1, 3), -30.0)], dim=-1)
        vague = torch.cat([torch.zeros(1, 3), torch.ones(1, 3)], dim=-1)
        sure, unsure = (
            Diffusion(1000).losses(output, clean, torch.tensor([0]), torch.zeros(1, 3)) for output in (sharp, vague)
        )
        torch.testing.assert_close(sure, torch.zeros(1), atol=1e-3, rtol=0)
        assert float(unsure) > 0.1

    def test_variance_does_not_teach_the_mean(self) -> None:
        torch.manual_seed(0)
        output = torch.randn(5, 4, requires_grad=True)
        noise = torch.randn(5, 2)
        Diffusion(1000).losses(output, torch.rand(5, 2), torch.tensor([0, 1, 9, 500, 999]), noise).sum().backward()
        torch.testing.assert_close(output.grad[:, :2], output.detach()[:, :2] - noise)

    def test_several_draws_share_their_condition(self, head: DiffusionHead) -> None:
        clean, condition = torch.rand(3, CHANNELS), torch.randn(3, WIDTH)
        timestep, noise = torch.tensor([3, 50, 700, 900, 10, 400]), torch.randn(6, CHANNELS)
        both = head.losses(clean, condition, timestep, noise)
        one, other = (head.losses(clean, condition, timestep[part], noise[part]) for part in (slice(0, 3), slice(3, 6)))
        torch.testing.assert_close(both, (one + other) / 2)


class TestHead:
    def test_untrained_predicts_nothing(self) -> None:
        head = DiffusionHead(SMALL, CHANNELS, WIDTH)
        output = head(torch.randn(5, CHANNELS), torch.arange(5), torch.randn(5, WIDTH))
        assert output.shape == (5, 2 * CHANNELS) and not output.any()

    @pytest.mark.parametrize("budget", [1, 16 * 8 * 6 * 2, 2**22], ids=["each step", "two steps", "all steps"])
    def test_samples_as_step_by_step(self, head: DiffusionHead, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(head_module, "AHEAD_VALUES", budget)
        condition = torch.randn(ROWS, VECTORS, WIDTH)
        found = head.sample([(1.0, condition)], seeded(1, 2))
        torch.testing.assert_close(found, stepwise(head, [condition] * 5), atol=1e-5, rtol=1e-5)

    def test_conditions_may_change_on_the_way(self, head: DiffusionHead) -> None:
        first, second, third = torch.randn(3, ROWS, VECTORS, WIDTH)
        changing = [first, second, second, second, third]
        found = head.sample_along(([(1.0, one)] for one in changing), (ROWS, VECTORS), seeded(1, 2))
        torch.testing.assert_close(found, stepwise(head, changing), atol=1e-5, rtol=1e-5)

    def test_guidance(self, head: DiffusionHead) -> None:
        without, condition = torch.randn(2, ROWS, VECTORS, WIDTH)
        found = head.sample([(-1.0, without), (2.0, condition)], seeded(1, 2))

        def guided(sample: Tensor, timestep: Tensor, _: Tensor) -> Tensor:
            outputs = [head(sample, timestep, one.flatten(0, 1)).chunk(2, dim=-1) for one in (without, condition)]
            return torch.cat([2 * outputs[1][0] - outputs[0][0], outputs[1][1]], dim=-1)

        torch.testing.assert_close(found, stepwise(head, [condition] * 5, guided), atol=1e-5, rtol=1e-5)

    def test_guidance_may_change_from_vector_to_vector(self, head: DiffusionHead) -> None:
        without, condition = torch.randn(2, ROWS, VECTORS, WIDTH)
        scale = torch.linspace(1, 3, VECTORS)
        found = head.sample([(1 - scale, without), (scale, condition)], seeded(1, 2))

        def guided(sample: Tensor, timestep: Tensor, _: Tensor) -> Tensor:
            outputs = [head(sample, timestep, one.flatten(0, 1)).chunk(2, dim=-1) for one in (without, condition)]
            own = scale.repeat(ROWS)[:, None]
            return torch.cat([own * outputs[1][0] + (1 - own) * outputs[0][0], outputs[1][1]], dim=-1)

        torch.testing.assert_close(found, stepwise(head, [condition] * 5, guided), atol=1e-5, rtol=1e-5)

    def test_learns_a_distribution_for_every_condition(self) -> None:
        # Two conditions, two means: the loss falls and samples follow.
        torch.manual_seed(0)
        head = DiffusionHead(ActionHead(width=32, depth=2, sampling_steps=20), 1, 2)
        optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
        condition = torch.eye(2).repeat_interleave(64, dim=0)
        losses = []
        for _ in range(150):
            clean = 0.5 * (condition[:, :1] - condition[:, 1:]) + 0.1 * torch.randn(128, 1)
            loss = head.losses(clean, condition).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-25:]) < 0.5 * sum(losses[:25])
        samples = head.sample([(1.0, condition[None])], seeded(0))[0, :, 0].view(2, 64)
        assert abs(float(samples[0].mean()) - 0.5) < 0.15 and abs(float(samples[1].mean()) + 0.5) < 0.15
        assert 0.03 < float(samples.std(dim=1).mean()) < 0.3


def stepwise(head: DiffusionHead, conditions: list[Tensor], predict: object = None) -> Tensor:
    """Samples with a forward of the head at every step."""
    options = head.options
    sampler = TemperedScheduler(options.training_steps, options.sampling_steps, options.temperature, clip=1.0)
    generator, like = seeded(1, 2), torch.zeros(())
    draws = [generator.randn((VECTORS, CHANNELS), like).flatten(0, 1) for _ in range(len(conditions) + 1)]
    sample = draws[0]
    with torch.no_grad():
        for index, condition in enumerate(conditions):
            timestep = sampler.timesteps[index].expand(len(sample))
            output = (predict or head)(sample, timestep, condition.flatten(0, 1))
            sample = sampler.advance(index, output, sample, draws[index + 1])
    return sample.view(ROWS, VECTORS, CHANNELS)


class TestAggregation:
    def test_conv_ori_is_the_mean_of_the_convolved(self) -> None:
        module = randomised(aggregation("conv_ori", GRID, 12))
        tokens = torch.randn(2, GRID.tokens, WIDTH)
        maps = tokens.view(2, 4, 8, 8, WIDTH).permute(0, 4, 1, 2, 3)
        expected = module.upsample(maps).mean(dim=(3, 4)).transpose(1, 2)
        torch.testing.assert_close(module(tokens), expected)

    @pytest.mark.parametrize("name", ["conv_fc", "conv_ori"])
    def test_axes_are_found_by_name(self, name: str) -> None:
        module = randomised(aggregation(name, GRID, 8))
        tokens = torch.randn(2, 4, 8, 8, WIDTH)
        module_of_other_order = aggregation(name, FeatureLayout(WIDTH, (("height", 8), ("width", 8), ("frames", 4))), 8)
        module_of_other_order.load_state_dict(module.state_dict())
        other = module_of_other_order(tokens.permute(0, 2, 3, 1, 4).reshape(2, -1, WIDTH))
        torch.testing.assert_close(other, module(tokens.flatten(1, 3)))

    @pytest.mark.parametrize("name", ["conv_fc", "conv_ori", "conv2", "fc2"])
    def test_several_views_and_single_frames(self, name: str) -> None:
        layouts = [
            FeatureLayout(WIDTH, (("views", 2), ("frames", 2), ("height", 2), ("width", 3))),
            FeatureLayout(WIDTH, (("height", 2), ("width", 3))),
        ]
        for layout in layouts:
            module = randomised(aggregation(name, layout, 4))
            tokens = torch.randn(2, layout.tokens, WIDTH, requires_grad=True)
            latents = module(tokens)
            assert latents.shape == (2, 4, WIDTH)
            latents.square().sum().backward()
            assert tokens.grad.abs().sum(dim=(0, 2)).all()


class Counting(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(tokens)


class Falling(StaticStream):
    """Features that are new at every level, and which levels were asked for."""

    def at(self, level: Tensor) -> list[Branch]:
        self.asked = [*getattr(self, "asked", []), level]
        return [Branch(1.0, self.branches[0].tokens + level.view(-1, 1, 1).clamp(max=1))]

    def descend(self, levels: Tensor):
        for level, following, _ in super().descend(levels):
            yield level, following, self.at(level.expand(len(self.observation)))


class TestActionDecoder:
    @pytest.fixture
    def spaces(self) -> Spaces:
        return toy_spaces()

    def decoder(self, spaces: Spaces, **options: object) -> UvaActionDecoder:
        torch.manual_seed(0)
        decoder = UvaAction(horizon=4, head=options.pop("head", SMALL), **options).build(GRID, spaces)
        decoder = randomised(decoder)
        decoder.aggregation = Counting(decoder.aggregation)
        return decoder

    def stream(self, kind: type[StaticStream]) -> StaticStream:
        torch.manual_seed(1)
        return kind(Observation({}, ["", ""]), GRID, [Branch(1.0, torch.randn(2, GRID.tokens, WIDTH))])

    def test_features_that_stay_are_condensed_once(self, spaces: Spaces) -> None:
        decoder = self.decoder(spaces)
        decoder.sample(self.stream(StaticStream), seeded(0, 1))
        assert decoder.aggregation.calls == 1
        decoder.sample(self.stream(Falling), seeded(0, 1))
        assert decoder.aggregation.calls == 1 + SMALL.sampling_steps

    def test_a_chunk_may_share_one_level(self, spaces: Spaces, monkeypatch: pytest.MonkeyPatch) -> None:
        options = {"head": SMALL.model_copy(update={"noise_samples": 2})}
        actions, mask = torch.zeros(2, 4, spaces.actions.dim), torch.ones(2, 4, dtype=torch.bool)
        for level_per, times in (("chunk", 2), ("action", 1)):
            decoder, stream, drawn = self.decoder(spaces, level_per=level_per, **options), self.stream(Falling), []
            add = decoder.head.diffusion.noisy

            def noisy(clean: Tensor, timestep: Tensor, noise: Tensor, add=add, drawn=drawn) -> Tensor:
                drawn.append(timestep.view(2, 2, 4))
                return add(clean, timestep, noise)

            monkeypatch.setattr(decoder.head.diffusion, "noisy", noisy)
            decoder.loss(stream, actions, mask)
            assert len(stream.asked) == times
            shared = (drawn[0] == drawn[0][..., :1]).all()
            assert bool(shared) == (level_per == "chunk")
            if shared:
                expected = decoder.head.diffusion.level(drawn[0][..., 0])
                torch.testing.assert_close(torch.stack(stream.asked), expected)

    def test_levels_fall_to_zero_as_the_schedule_does(self, spaces: Spaces) -> None:
        stream = self.stream(Falling)
        self.decoder(spaces).sample(stream, seeded(0, 1))
        levels = torch.stack(stream.asked)[:, 0]
        signal = torch.from_numpy(cosine_signal(1000))[[999, 749, 500, 250, 0]]
        torch.testing.assert_close(levels.double(), (1 / signal - 1).sqrt(), rtol=1e-5, atol=0)

    def test_actions_stay_within_their_range(self, spaces: Spaces) -> None:
        actions: ActionSpace = spaces.actions
        chunk = self.decoder(spaces).sample(self.stream(StaticStream), seeded(0, 1))
        assert chunk.shape == (2, 4, actions.dim) and chunk.abs().max() <= 1
