"""Official checkpoints become our weights: names, shapes, scaling, and what the models compute."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import recorded
from torch import nn
from vpolicy_uva.components import Uva, UvaJoint
from vpolicy_uva.importing import UvaImporter

from videopolicy import ActionSpace, Camera, Checkpoint, Imported, Spaces, StateSpace, WeightsError
from videopolicy.importing.folder import ensure_complete, ensure_same_policy
from videopolicy.recipes.recipe import load_recipe
from videopolicy.training.checkpoints import ensure_fit

ROOT = Path(__file__).resolve().parents[3]


spec = importlib.util.spec_from_file_location("uva_official_files", Path(__file__).with_name("uva_official_files.py"))
files = sys.modules["uva_official_files"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
official = files.official


def converted(
    variant: Any, sizes: Any = files.TINY, widths: tuple[int, ...] = files.TINY_WIDTHS, **options: Any
) -> Imported:
    imported = UvaImporter(**options).convert(files.checkpoint_of(files.state_of(variant, sizes, widths)))
    ensure_complete(imported, "latest.ckpt")
    return imported


def spaces_of(variant: Any) -> Spaces:
    zeros = (0.0,) * variant.actions
    names = tuple(f"a{n}" for n in range(variant.actions))
    return Spaces(
        cameras=tuple(
            Camera(name=name, height=8, width=8)
            for name in ("scene", "wrist")[: 1 + (variant.second_used or variant.wrist)]
        ),
        actions=ActionSpace(names=names, low=zeros, high=zeros, control="velocity", rate=1),
        state=StateSpace(names=tuple(f"s{n}" for n in range(variant.state))) if variant.state else None,
    )


def component_of(imported: Imported, **joint: Any) -> Uva | UvaJoint:
    """The component that the reported options describe."""
    nested: dict[str, Any] = {}
    for path, value in imported.options.items():
        *outer, name = path.split(".")
        node = nested
        for part in outer:
            node = node.setdefault(part, {})
        node[name] = value
    if imported.target == "policy.joint":
        return UvaJoint.model_validate(nested | joint)
    nested["joint"] |= joint
    return Uva.model_validate(nested | {"modes": ["policy"]})


def fits(imported: Imported, spaces: Spaces, **joint: Any) -> nn.Module:
    """Build the model of the reported options; names and shapes must be those that were imported."""
    with torch.device("meta"):
        module = component_of(imported, **joint).build(spaces)
    shapes = {name: tuple(value.shape) for part in imported.parts.values() for name, value in part.items()}
    ensure_fit(module, "latest.ckpt", shapes, imported.left_out)
    return module


class TestNames:
    @pytest.mark.parametrize(
        ("variant", "tensors", "millions"),
        [("PUSHT", 444, 261.08), ("LIBERO", 449, 261.60), ("UMI", 525, 314.46), ("TOOLHANG", 583, 350.91)],
    )
    def test_of_the_official_sizes(self, variant: str, tensors: int, millions: float) -> None:
        """Counted in the official modules at ``mar_base``."""
        variant = getattr(official, variant)
        shapes = official.model(variant)
        assert len(shapes) == tensors
        assert sum(map(math.prod, shapes.values())) / 1e6 == pytest.approx(millions, abs=0.005)
        imported = converted(variant, official.Sizes(), (128, 128, 256, 256, 512))
        policy = fits(imported, spaces_of(variant))
        options = policy.joint.options
        assert (options.image_size, options.chunk, options.transformer.decoder_shape) == ((256, 256), 16, (768, 12, 12))
        assert sum(value.numel() for value in imported.parts["autoencoder"].values()) == 66_456_019
        dropped = [name for name in imported.dropped if name.startswith("model.")]
        carried = sum(len(part) for name, part in imported.parts.items() if name != "autoencoder")
        assert carried + len(dropped) == tensors

    @pytest.mark.parametrize("case", ["pusht", "libero10", "umi", "toolhang", "history_action", "conv_ori"])
    def test_are_those_of_the_official_code(self, case: str) -> None:
        variants = {"pusht": "PUSHT", "libero10": "LIBERO", "umi": "UMI", "toolhang": "TOOLHANG"}
        variant = getattr(official, variants.get(case, "PAST" if case == "history_action" else "PUSHT"))
        variant = replace(variant, aggregation="conv_ori") if case == "conv_ori" else variant
        state = recorded("uva")["state"]
        shapes = {name: tuple(value.shape) for name, value in state[case].items()}
        assert shapes == official.model(variant, official.Sizes(32, 2, 32, 2, 32, 2))
        assert {name: tuple(value.shape) for name, value in state["vae"].items()} == official.autoencoder((32,) * 5)
        held = {f"model.{name}": value for name, value in state[case].items()}
        held |= {f"vae_model.{name}": value for name, value in state["vae"].items()}
        imported = UvaImporter(heads=(4, 4)).convert(files.checkpoint_of(held))
        ensure_complete(imported, case)
        fits(imported, spaces_of(variant))


class TestVariants:
    def test_of_every_kind_fit_the_policy_that_they_describe(self) -> None:
        variants = {
            "PUSHT": {"past_actions": 0, "text": None, "proprioception": False, "predicted_views": None},
            "LIBERO": {"text_tokens": 64, "text.type": "clip-text", "text.max_length": 30},
            "UMI": {
                "proprioception": True,
                "predicted_views": None,
                "states": "frames",
                "predict_proprioception.dimensions": [10, 11, 12, 13, 14, 15],
                "predict_proprioception.aggregation": "conv_fc",
                "predict_proprioception.head.width": 24,
            },
            "TOOLHANG": {
                "proprioception": True,
                "predicted_views": None,
                "seen_views": None,
                "states": "steps",
                "predict_proprioception.dimensions": None,
                "predict_proprioception.head.depth": 2,
            },
            "PAST": {"past_actions": 16},
        }
        for name, wanted in variants.items():
            variant = getattr(official, name)
            imported = converted(variant, heads=(2, 4))
            assert imported.target == "policy"
            assert {path: imported.options[f"joint.{path}"] for path in wanted} == wanted, name
            assert imported.left_out == (("joint.text.",) if variant.text else ())
            policy = fits(imported, spaces_of(variant))
            assert policy.joint.options.transformer.decoder_shape == (16, 1, 4)
            assert policy.joint.options.image_size == (16, 16)
            assert (policy.joint.options.video.width, policy.joint.options.video.depth) == (24, 2)

    @pytest.mark.parametrize("aggregation", ["conv_fc", "conv_ori", "conv2", "fc2"])
    def test_of_every_aggregation(self, aggregation: str) -> None:
        variant = replace(official.PUSHT, aggregation=aggregation)
        imported = converted(variant, heads=(2, 2))
        assert imported.options["action.aggregation"] == aggregation and imported.options["action.horizon"] == 16
        fits(imported, spaces_of(variant))

    @pytest.mark.parametrize(
        ("name", "said", "other"), [("UMI", "history's frames", "steps"), ("TOOLHANG", "every step", "frames")]
    )
    def test_says_where_states_are_read_and_predicts_them(self, name: str, said: str, other: str) -> None:
        variant = getattr(official, name)
        imported = converted(variant, heads=(2, 2))
        (sentence,) = [one for one in imported.not_carried if one.startswith("Where states are read")]
        assert said in sentence and f"states: {other}" in sentence
        policy = fits(imported, spaces_of(variant))
        predicted = {name: value for name, value in policy.state_dict().items() if "state_prediction" in name}
        assert imported.parts["state head"].keys() == predicted.keys()
        assert policy.joint.state_prediction.head.channels == variant.predicted_state
        stage = converted(replace(variant, aggregation=None), heads=(2, 2))
        assert "state head" not in stage.parts and stage.options["predict_proprioception"] is None

    def test_a_camera_that_is_predicted_and_not_seen(self) -> None:
        variant = replace(official.PUSHT, wrist=True)
        imported = converted(variant, heads=(2, 2))
        assert imported.options["joint.predicted_views"] is None and "joint.seen_views" not in imported.options
        assert any("`seen_views` must name the first" in sentence for sentence in imported.not_carried)
        policy = fits(imported, spaces_of(variant), seen_views=["scene"])
        assert policy.joint.transformer.fuse.in_features == 4 * 32 and len(policy.joint.video_heads) == 2

    def test_a_second_camera_that_is_seen_only(self) -> None:
        imported = converted(official.TOOLHANG_SEEN, heads=(2, 2))
        assert "joint.predicted_views" not in imported.options
        assert any("`predicted_views` must name the first" in sentence for sentence in imported.not_carried)
        fits(imported, spaces_of(official.TOOLHANG_SEEN), predicted_views=["scene"])
        assert "joint.transformer.views.1.history.weight" in imported.parts["transformer"]

    @pytest.mark.parametrize("variant", ["PUSHT", "LIBERO"])
    def test_a_first_stage_is_a_joint_model(self, variant: str) -> None:
        variant = replace(getattr(official, variant), aggregation=None)
        imported = converted(variant, heads=(2, 2))
        assert imported.target == "policy.joint" and not any(path.startswith("action.") for path in imported.options)
        assert imported.left_out == (("text.",) if variant.text else ())
        fits(imported, spaces_of(variant))

    def test_without_video(self) -> None:
        imported = converted(replace(official.PUSHT, video=False), heads=(2, 2))
        assert imported.options["joint.video"] is None and "video heads" not in imported.parts
        fits(imported, spaces_of(official.PUSHT))

    def test_numbers_of_heads_that_nobody_knows(self) -> None:
        imported = converted(official.PUSHT)
        assert "joint.transformer.heads" not in imported.options
        assert any("heads=[ENCODER,DECODER]" in sentence for sentence in imported.not_carried)
        for width, depth, heads in ((768, 3, 6), (768, 12, 12), (1024, 16, 16), (1280, 20, 16)):
            sizes = replace(files.TINY, width=width, depth=depth, decoder_width=width, decoder_depth=depth)
            assert converted(official.PUSHT, sizes).options["joint.transformer.heads"] == heads

    def test_what_is_dropped_has_a_reason(self) -> None:
        imported = converted(official.UMI, heads=(2, 2))
        reasons = {
            "model.proprioception_image_proj_cond.bias": "UMI's models have and do not use",
            "text_model.embeddings.weight": "the recipe's text component loads",
            "optimizer": "state of training",
            "cfg": "omegaconf",
        }
        for name, said in reasons.items():
            assert said in imported.dropped[name]


class TestShippedRecipes:
    @pytest.mark.parametrize(
        ("recipe", "variant", "scaling"),
        [
            ("uva_pusht", "PUSHT", "PUSHT_SCALING"),
            ("uva_pusht_multitask", "PUSHT", "PUSHT_SCALING"),
            ("uva_libero10", "LIBERO", "ARM_SCALING"),
            ("uva_toolhang", "TOOLHANG_BASE", "TOOLHANG_SCALING"),
        ],
    )
    def test_take_official_checkpoints(self, recipe: str, variant: str, scaling: str) -> None:
        state = files.state_of(getattr(official, variant), official.Sizes(), (128, 128, 256, 256, 512))
        imported = UvaImporter().convert(files.checkpoint_of(state | getattr(files, scaling)))
        ensure_complete(imported, "latest.ckpt")
        loaded = load_recipe(ROOT / f"recipes/{recipe}.yaml")
        ensure_same_policy(imported, loaded, "latest.ckpt")
        spaces = loaded.benchmark.spaces()
        assert len(imported.statistics.actions.mean) == spaces.actions.dim
        if imported.statistics.state is not None:
            assert len(imported.statistics.state.mean) == spaces.state.dim
        # What the checkpoint leaves as it is, training in the recipe does too, and nothing else.
        low, high = imported.statistics.actions.minimum, imported.statistics.actions.maximum
        kept = [
            name
            for name, ends in zip(spaces.actions.names, zip(low, high, strict=True), strict=True)
            if ends == (-1, 1)
        ]
        assert kept == [name for name in spaces.actions.names if name in loaded.normalization.unscaled]


class TestRefusals:
    def test_names_that_nobody_knows_and_names_that_lack(self) -> None:
        state = files.state_of(official.LIBERO)
        lost = [
            "model.encoder_blocks.0.attn.qkv.bias",
            "model.diffactloss.refine.2.weight",
            "model.diffloss.net.res_blocks.1.in_ln.weight",
            "model.fake_action_latent",
            "vae_model.encoder.down.2.attn.1.k.weight",
        ]
        surplus = ["model.mask_token", "model.encoder_blocks.0.attn.q_norm.weight", "vae_model.loss.logvar", "extra.w"]
        surplus += [f"{files.NORMALIZER}torque.scale", "model.diffactloss.conv.2.weight"]
        broken = {name: value for name, value in state.items() if name not in lost}
        broken |= {name: torch.ones(1) for name in surplus}
        broken |= files.ARM_SCALING
        imported = UvaImporter(heads=(2, 2)).convert(files.checkpoint_of(broken))
        assert sorted(imported.unexpected) == sorted(surplus)
        assert len(imported.missing) == len(lost)
        with pytest.raises(WeightsError, match=r"5 keys are missing .* 6 are unexpected"):
            ensure_complete(imported, "latest.ckpt")

    def test_tensors_that_do_not_go_together(self) -> None:
        state = files.state_of(official.PUSHT) | {"model.encoder_norm.weight": torch.ones(31)}
        imported = UvaImporter(heads=(2, 2)).convert(files.checkpoint_of(state))
        assert imported.unexpected == ["joint.transformer.encoder_norm.weight of shape (31,) instead of (32,)"]
        for name, shape, said in (
            ("proj_cond_x_layer.weight", (32, 5 * 32), "fuse 5 streams, and have layers for 3"),
            ("spatial_pos_embed", (1, 15, 32), "15 tokens, which are not square"),
        ):
            state = files.state_of(official.PUSHT) | {f"model.{name}": torch.zeros(shape)}
            with pytest.raises(WeightsError, match=said):
                UvaImporter().convert(files.checkpoint_of(state))
        with pytest.raises(WeightsError, match=r"32 is not a multiple of its 5 heads"):
            converted(official.PUSHT, heads=(5, 5))

    def test_files_of_something_else(self) -> None:
        importer = UvaImporter()
        with pytest.raises(WeightsError, match="has no entry 'state_dicts'"):
            importer.convert(Checkpoint(Path("x.pt"), {"state_dict": {"w": torch.ones(1)}}))
        with pytest.raises(WeightsError, match=r"no name in it begins with model\."):
            importer.convert(files.checkpoint_of({"actor.weight": torch.ones(1)}))
        without = {
            name: value for name, value in files.state_of(official.PUSHT).items() if not name.startswith("vae_model.")
        }
        with pytest.raises(WeightsError, match=r"lacks decoder\.conv_in\.weight"):
            importer.convert(files.checkpoint_of(without))

    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
    def test_what_training_wraps_around_a_model_says_nothing_about_it(self, prefix: str) -> None:
        state = files.state_of(official.PUSHT)
        plain, wrapped = (
            UvaImporter().convert(files.checkpoint_of({f"{start}{name}": value for name, value in state.items()}))
            for start in ("", prefix)
        )
        ensure_complete(wrapped, "latest.ckpt")
        assert {part: sorted(held) for part, held in wrapped.parts.items()} == {
            part: sorted(held) for part, held in plain.parts.items()
        }
        assert wrapped.options == plain.options

    def test_the_weights_that_were_asked_for(self) -> None:
        averaged = files.state_of(official.PUSHT)
        trained = {f"module.{name}": value for name, value in averaged.items()}
        name = "fake_latent_x"
        averaged[f"model.{name}"], trained[f"module.model.{name}"] = torch.zeros(1, 32), torch.ones(1, 32)
        both = files.checkpoint_of(averaged, model=trained)
        for which, mean, other in (("ema", 0.0, "model"), ("model", 1.0, "ema_model")):
            imported = UvaImporter(weights=which).convert(both)
            ensure_complete(imported, "latest.ckpt")
            assert imported.parts["transformer"]["joint.transformer.views.0.masked"].mean() == mean
            assert other in imported.dropped
        with pytest.raises(WeightsError, match="no weights 'model'") as refused:
            UvaImporter(weights="model").convert(files.checkpoint_of(averaged))
        assert "weights=ema" in refused.value.hint
        with pytest.raises(WeightsError, match="no weights 'ema_model'"):
            UvaImporter().convert(files.checkpoint_of(averaged, ema_model=None, model=trained))
