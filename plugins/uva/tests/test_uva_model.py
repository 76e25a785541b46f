"""What the joint model is shown in each mode, what it remembers, and what it learns."""

from __future__ import annotations

import math

import pytest
import torch
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.latents import build_latents
from vpolicy_uva.masking import left_hidden, mask_ratio, masked_cells
from vpolicy_uva.options import ActionHead, CosineLatent, Head, KlLatent, Transformer

from videopolicy import ActionSpace, Batch, Camera, Observation, RecipeError, RowGenerator, Spaces
from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_observation, toy_spaces

MODES = ("policy", "video", "forward", "inverse", "full")


def policy_of(spaces=None, *, modes=MODES, action=None, guidance=1.0, modes_per="batch", seed=0, **joint):
    options = {
        "image_size": (32, 32),
        "frames": 2,
        "stride": 2,
        "history_stride": 2,
        "latent": SpaceToDepthLatent(patch=8),
        "text": None,
        "transformer": Transformer(width=32, depth=1, heads=2, attention_dropout=0, dropout=0),
        "video": Head(width=32, depth=1, sampling_steps=4),
        **joint,
    }
    action = action or UvaAction(horizon=4, head=ActionHead(width=32, depth=1, sampling_steps=4))
    torch.manual_seed(seed)
    component = Uva(joint=UvaJoint(**options), action=action, modes=modes, modes_per=modes_per, guidance=guidance)
    return component.build(spaces or toy_spaces()).eval()


def one_camera(size: int = 32, actions: int = 4) -> Spaces:
    return Spaces(
        cameras=(Camera(name="front", height=size, width=size),),
        actions=ActionSpace(
            names=tuple(f"a{i}" for i in range(actions)),
            low=(-1.0,) * actions,
            high=(1.0,) * actions,
            control="velocity",
            rate=10,
        ),
    )


def latent_of(policy, batch, mode) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return policy.joint.transformer(policy.joint.practise(batch, [mode] * len(batch))[0])


class TestMasking:
    def test_the_ratio_is_a_normal_cut_at_its_mean(self):
        torch.manual_seed(0)
        ratios = torch.tensor([mask_ratio(0.7) for _ in range(4000)])
        assert float(ratios.min()) >= 0.7 and float(ratios.max()) <= 1
        assert float(ratios.mean()) == pytest.approx(0.867, abs=0.005)
        assert float(ratios.std()) == pytest.approx(0.084, abs=0.004)

    def test_every_row_hides_as_many_cells_and_others(self):
        masked = masked_cells(8, 256, 0.7)
        assert len(set(masked.sum(dim=1).tolist())) == 1 and len({tuple(row.tolist()) for row in masked}) == 8

    def test_cells_are_revealed_along_a_cosine(self):
        left = left_hidden(256, 8)
        assert left == [math.floor(256 * math.cos(math.pi / 2 * step / 8)) for step in range(1, 8)] + [0]
        assert left_hidden(256, 1) == [0] and left_hidden(4, 4) == [3, 2, 1, 0]
        with pytest.raises(ValueError, match="revealed in 1 to 4 steps, not in 5"):
            left_hidden(4, 5)


class TestModes:
    @pytest.fixture
    def policy_and_batches(self):
        policy = policy_of(one_camera())
        return policy, *(toy_batch(one_camera(), policy.window, seed=seed) for seed in (0, 1))

    @pytest.mark.parametrize(
        ("mode", "history", "future", "actions"),
        [
            ("policy", True, False, False),
            ("video", True, True, False),
            ("forward", True, True, True),
            ("inverse", False, True, False),
            ("full", True, True, False),
        ],
    )
    def test_what_a_mode_sees(self, policy_and_batches, mode, history, future, actions):
        policy, one, other = policy_and_batches
        base = latent_of(policy, one, mode)
        changed = {
            "history": Batch(other.observation, one.future, one.future_mask, one.actions, one.action_mask),
            "future": Batch(one.observation, other.future, one.future_mask, one.actions, one.action_mask),
            "actions": Batch(one.observation, one.future, one.future_mask, other.actions, one.action_mask),
        }
        seen = {name: not torch.equal(base, latent_of(policy, batch, mode)) for name, batch in changed.items()}
        assert seen == {"history": history, "future": future, "actions": actions}

    def test_video_and_full_dynamics_are_told_the_same(self, policy_and_batches):
        policy, batch, _ = policy_and_batches
        assert torch.equal(latent_of(policy, batch, "video"), latent_of(policy, batch, "full"))

    def test_acting_reads_the_latent_with_which_video_generation_begins(self, policy_and_batches):
        policy, batch, _ = policy_and_batches
        seen = []
        policy.joint.transformer.register_forward_hook(lambda *call: seen.append(call[-1]))
        policy.act(batch.observation, RowGenerator.from_seeds([0, 1]))
        policy.predict_video(batch.observation, RowGenerator.from_seeds([0, 1]), steps=3)
        assert len(seen) == 4 and torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])

    def test_one_mode_a_batch_or_one_a_row(self):
        everyone = torch.ones(64, dtype=torch.bool)
        together, apart = (policy_of(one_camera(), modes_per=per) for per in ("batch", "sample"))
        drawn = set()
        for _ in range(40):
            (mode,) = set(together._draw(everyone))
            drawn.add(mode)
        assert drawn == set(MODES) and set(apart._draw(everyone)) == set(MODES)

    def test_losses_are_those_of_the_mode_and_every_parameter_has_a_gradient(self):
        for mode, expected in {
            "policy": {"action"},
            "inverse": {"action"},
            "full": {"video", "action"},
            "forward": {"video"},
        }.items():
            policy = policy_of(one_camera(), modes=("full",)).train()
            policy._draw = lambda acted, mode=mode: [mode] * len(acted)
            losses = policy.loss(toy_batch(one_camera(), policy.window))
            assert set(losses) == expected
            torch.stack(list(losses.values())).sum().backward()
            assert all(one.grad is not None for one in policy.parameters() if one.requires_grad)

    def test_windows_without_actions_teach_the_video_model(self):
        policy = policy_of(one_camera(), modes=("policy", "inverse", "full")).train()
        batch = toy_batch(one_camera(), policy.window)
        batch.actions, batch.action_mask = (
            torch.full_like(batch.actions, torch.nan),
            torch.zeros(2, 4, dtype=torch.bool),
        )
        losses = policy.loss(batch)
        assert set(losses) == {"video"}
        losses["video"].backward()
        assert all(torch.isfinite(one.grad).all() for one in policy.parameters() if one.grad is not None)
        batch.action_mask = None
        batch.actions = None
        assert set(policy.joint.loss(batch)) == {"video"}

    def test_hidden_past_actions_do_not_matter(self):
        policy = policy_of(one_camera(), past_actions=4)
        batch = toy_batch(one_camera(), policy.window)
        base = latent_of(policy, batch, "policy")
        batch.observation.past_actions[0, 0] += 1
        assert not torch.equal(base, latent_of(policy, batch, "policy"))
        batch.observation.past_actions[:] = torch.nan
        unknown = latent_of(policy, batch, "policy")
        batch.observation.past_actions = None
        assert torch.equal(unknown, latent_of(policy, batch, "policy")) and torch.isfinite(unknown).all()

    def test_history_of_training_is_drawn_and_that_of_acting_is_not(self):
        joint = policy_of(
            one_camera(), frames=4, random_history=True, transformer=Transformer(width=32, depth=1, heads=2)
        ).joint
        assert joint.window.observed == tuple(range(-7, 1))
        assert joint._history_frames(drawn=False) == [1, 3, 5, 7]
        drawn = {tuple(joint._history_frames(drawn=True)) for _ in range(400)}
        assert all(list(places) == sorted(places) and places[-1] == 7 for places in drawn)
        assert len(drawn) > 100 and any(places[0] == places[1] for places in drawn)


class TestMemory:
    @pytest.fixture
    def seeing(self):
        spaces = one_camera()
        latent = KlLatent(channels=(32, 32, 32), layers=1, latent_channels=4)
        action = UvaAction(horizon=16, head=ActionHead(width=32, depth=1, sampling_steps=4))
        policy = policy_of(spaces, latent=latent, frames=4, stride=4, history_stride=4, action=action)
        clip = toy_observation(spaces, policy.window, batch_size=1)
        later = toy_observation(spaces, policy.window, seed=1, batch_size=1)
        later.images["front"] = torch.cat([clip.images["front"][:, 2:], later.images["front"][:, 2:]], dim=1)
        return policy, clip, later

    def test_frames_that_were_seen_are_not_encoded_again(self, seeing):
        policy, clip, later = seeing
        generators = [RowGenerator.from_seeds([7]) for _ in range(3)]
        policy.act(clip, generators[0])
        assert policy.joint._memory.encoded == 4
        remembered = policy.act(later, generators[1])
        assert policy.joint._memory.encoded == 6
        policy.joint._memory.forget()
        afresh = policy.act(later, generators[2])
        assert policy.joint._memory.encoded == 10 and torch.equal(remembered, afresh)

    def test_an_episode_begins_with_one_frame_and_candidates_share_theirs(self, seeing):
        policy, clip, _ = seeing
        clip.images["front"][:] = clip.images["front"][:, -1:]
        many = Observation({"front": clip.images["front"].repeat(5, 1, 1, 1, 1)}, [""] * 5)
        policy.act(many, RowGenerator.from_seeds(list(range(5))))
        assert policy.joint._memory.encoded == 1

    def test_new_weights_are_not_answered_with_old_latents(self, seeing):
        policy, clip, _ = seeing
        policy.act(clip, RowGenerator.from_seeds([0]))
        policy.load_state_dict(policy.state_dict())
        policy.act(clip, RowGenerator.from_seeds([0]))
        assert policy.joint._memory.encoded == 8

    def test_latents_are_drawn_anew_unless_the_mode_is_asked_for(self, seeing):
        joint = seeing[0].joint
        moments = torch.randn(2, 1, 1, 8, 8, 8)
        draws = [joint.latent.draw(moments, RowGenerator.from_seeds([0, seed])) for seed in (1, 2)]
        assert torch.equal(draws[0][0], draws[1][0]) and not torch.equal(draws[0][1], draws[1][1])


class TestMethods:
    def test_predicted_frames_depend_on_steps_actions_and_guidance(self):
        policy = policy_of(text=WordText(width=16, words=4, buckets=64, layers=0), text_tokens=2)
        for head in policy.joint.video_heads:  # whose last layers begin at 0
            for parameter in head.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
        observation = toy_observation(toy_spaces(), policy.window)
        actions = torch.rand(2, 4, 4) * 2 - 1

        def predicted(**options):
            return policy.predict_video(observation, RowGenerator.from_seeds([0, 1]), **options)

        plain = predicted()
        assert plain.shape == (2, 2, 2, 3, 32, 32) and plain.dtype == torch.uint8
        assert policy.clip_offsets == (2, 4)
        assert torch.equal(plain, predicted()) and torch.equal(plain, predicted(steps=1, guidance=1.0))
        for options in ({"steps": 4}, {"actions": actions}, {"guidance": 2.0}, {"actions": actions, "steps": 4}):
            assert not torch.equal(plain, predicted(**options)), options
        with pytest.raises(ValueError, match="3 actions do not reach the last frame, which 4 lead to"):
            predicted(actions=actions[:, :3])
        with pytest.raises(ValueError, match="revealed in 1 to 16 steps, not in 17"):
            predicted(steps=17)

    def test_only_the_predicted_cameras_are_predicted(self):
        policy = policy_of(predicted_views=("wrist",))
        observation = toy_observation(toy_spaces(), policy.window)
        assert policy.predict_video(observation, RowGenerator.from_seeds([0, 1])).shape[1] == 1
        assert policy.joint.predicted_cameras == ("wrist",)

    def test_guidance_weighs_the_latents_with_and_without_the_instruction(self):
        policy = policy_of(text=WordText(width=16, words=4, buckets=64, layers=0), text_tokens=2)
        observation = toy_observation(toy_spaces(), policy.window)
        conditioning = policy.joint.seen(observation, RowGenerator.from_seeds([0, 1]))
        with torch.no_grad():
            (first, without), (second, conditional) = policy.joint.branches(conditioning, 3.0)
            ((whole, plain),) = policy.joint.branches(conditioning, 1.0)
            observation.instructions = ["something else", "entirely"]
            other = policy.joint.seen(observation, RowGenerator.from_seeds([0, 1]))
            unconditional = policy.joint.branches(other, 3.0)[0][1]
        assert (first, second, whole) == (-2.0, 3.0, 1.0)
        torch.testing.assert_close(conditional, plain, atol=1e-5, rtol=0)
        torch.testing.assert_close(without, unconditional, atol=1e-5, rtol=0)
        assert not torch.allclose(without, conditional)
        with pytest.raises(ValueError, match="reads none"):
            policy_of().predict_video(observation, RowGenerator.from_seeds([0, 1]), guidance=2.0)

    def test_inverse_dynamics_asks_for_what_it_needs(self):
        frames = {name: torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8) for name in ("front", "wrist")}
        generator = RowGenerator.from_seeds([0, 1])
        with pytest.raises(RecipeError, match="sees the other cameras' history"):
            policy_of().infer_actions(frames, generator)
        assert policy_of(inverse_hides="all").infer_actions(frames, generator).shape == (2, 4, 4)
        alone = policy_of(one_camera())
        assert alone.infer_actions({"front": frames["front"]}, generator).shape == (2, 4, 4)
        observation = toy_observation(toy_spaces(), policy_of().window)
        assert policy_of().infer_actions(frames, generator, observation).shape == (2, 4, 4)

    def test_a_model_without_video_says_so(self):
        policy = policy_of(one_camera(), video=None, modes=("policy",))
        with pytest.raises(RecipeError, match="predicts no video"):
            policy.predict_video(toy_observation(one_camera(), policy.window), RowGenerator.from_seeds([0, 1]))


def test_weight_decay_leaves_vectors_alone_and_not_positions():
    policy = policy_of()
    names = {one: name for name, one in policy.named_parameters()}
    spared, decayed = (
        {names[one] for one in group["params"]}
        for group in sorted(policy.parameter_groups(), key=lambda group: "weight_decay" not in group)
    )
    assert {"joint.transformer.fuse.bias", "joint.transformer.input_norm.weight"} <= spared
    assert {"joint.transformer.cell_positions", "joint.transformer.views.0.masked"} <= decayed


def lit_room(rows: int, horizon: int, generator: torch.Generator) -> Batch:
    """A striped wall whose lamp is turned: every action is a step of brightness, and the frame is lit by their sum."""
    actions = torch.rand(rows, horizon, 1, generator=generator) * 2 - 1
    start = torch.rand(rows, 1, 1, generator=generator) * 0.2 + 0.4
    light = torch.cat([start, start + actions.cumsum(dim=1) * 0.12], dim=1)
    stripes = torch.linspace(-0.12, 0.12, 4).repeat(2)
    frames = ((light + stripes).clamp(0, 1) * 255).to(torch.uint8)[:, :, None, :, None].expand(-1, -1, 3, -1, 8)
    there = torch.ones(rows, horizon, dtype=torch.bool)
    observation = Observation({"front": frames[:, :1]}, [""] * rows)
    return Batch(observation, {"front": frames[:, 1:]}, there, actions, there)


@pytest.mark.slow
def test_one_model_learns_to_predict_what_actions_do_and_to_read_actions_from_frames():
    policy = policy_of(
        one_camera(8, 1),
        image_size=(8, 8),
        stride=1,
        history_stride=0,
        latent=CosineLatent(patch=4, luma=3, chroma=1),
        transformer=Transformer(width=64, depth=2, heads=4, attention_dropout=0, dropout=0),
        video=Head(width=64, depth=2, sampling_steps=25, noise_samples=2, clip=6),
        action=UvaAction(
            aggregation="fc2", horizon=2, head=ActionHead(width=64, depth=2, sampling_steps=25, noise_samples=8)
        ),
        modes=("forward", "inverse", "full"),
        modes_per="sample",
    ).train()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    losses = []
    for step in range(400):
        torch.manual_seed(step)
        found = policy.loss(lit_room(32, 2, generator))
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in found.items()})
    for name in ("video", "action"):
        first, last = (sum(one[name] for one in part) / len(part) for part in (losses[:10], losses[-20:]))
        assert last < 0.6 * first, (name, first, last)

    policy.eval()
    batch = lit_room(48, 2, torch.Generator().manual_seed(1))

    def noise():
        return RowGenerator.from_seeds(list(range(48)))

    def missed(**options):
        frames = policy.predict_video(batch.observation, noise(), **options)
        return float((frames[:, 0].float() - batch.future["front"].float()).abs().mean())

    blind, conditioned, wrong = missed(), missed(actions=batch.actions), missed(actions=-batch.actions)
    assert conditioned < 0.7 * blind < 0.7 * wrong, (conditioned, blind, wrong)

    def misread(actions):
        return float((actions - batch.actions)[:, 1].abs().mean())  # the one between the two frames

    inferred, guessed = (
        misread(policy.infer_actions(batch.future, noise())),
        misread(policy.act(batch.observation, noise())),
    )
    assert inferred < 0.5 * guessed, (inferred, guessed)


class TestCosineLatent:
    def test_all_coefficients_give_the_image_back(self):
        images = torch.rand(2, 3, 16, 16) * 2 - 1
        latents = build_latents(CosineLatent(patch=4, luma=16, chroma=16))
        assert latents.moments(images).shape == (2, 48, 4, 4)
        torch.testing.assert_close(latents.decode(latents.moments(images)), images, atol=1e-5, rtol=0)

    def test_few_coefficients_keep_what_is_smooth(self):
        ramp = torch.linspace(-1, 1, 16)
        images = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), torch.full((16, 16), 0.3)])[None]
        latents = build_latents(CosineLatent(patch=8, luma=6, chroma=3))
        again = latents.decode(latents.moments(images))
        assert float((again - images).abs().mean()) < 0.03
        assert float((again - images.mean(dim=(2, 3), keepdim=True)).abs().mean()) > 0.2

    def test_a_block_has_no_more_coefficients_than_pixels(self):
        with pytest.raises(ValueError, match="a block of 2 x 2 pixels has 4 coefficients"):
            CosineLatent(patch=2, luma=5)
