"""What `gpu_figures.py` measures, and how its figures look on a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GOAL = 790e12
"""Operations a second that a large product in bfloat16 reaches on the accelerators that floors are reckoned for."""
FLOORS = {
    "vpp": "5.75 TFLOP for two views: 7.3 ms at 790 TFLOP/s",
    "video_policy": "14.2 TFLOP a guided step: 18 ms at 790 TFLOP/s",
}
SMALL_TEXT = "{type: clip-text, weights: nowhere, width: 64, pooled_width: 64, max_length: 20}"
SMALL_SVD = [
    "policy.extractor.backbone.image_size=[64, 64]",
    "policy.extractor.backbone.unet.channels=[32, 32, 32, 32]",
    "policy.extractor.backbone.unet.heads=[2, 2, 2, 2]",
    "policy.extractor.backbone.unet.layers=1",
    f"policy.extractor.backbone.text={SMALL_TEXT}",
]
SMALL_VAE = "channels: [32, 32, 32, 32], layers: 1"


@dataclass(frozen=True)
class Subjects:
    """A recipe, and the numbers of steps at which its policy is measured.

    Args:
        recipe: Its file.
        steps: Field with the number of sampling steps, and its values.
        tiny: Overrides that leave nothing of the size and everything of the plumbing.
        stages: Which stages are timed, by name, with the batches to try.
    """

    recipe: str
    steps: tuple[str, tuple[int, ...]]
    tiny: tuple[str, ...]
    stages: tuple[tuple[str, tuple[int, ...]], ...]


SUBJECTS = {
    "vpp": Subjects(
        "vpp_calvin.yaml",
        ("policy.decoder.sampling_levels.steps", (10,)),
        (
            *SMALL_SVD,
            "policy.extractor.backbone.frames=2",
            f"policy.extractor.backbone.latent={{type: vae, {SMALL_VAE}}}",
            "policy.extractor.former.dim=32",
            "policy.extractor.former.depth=1",
            f"policy.decoder.text={SMALL_TEXT}",
            "policy.decoder.width=32",
            "policy.decoder.encoder_layers=1",
            "policy.decoder.decoder_layers=1",
        ),
        (("policy", (19, 8, 4)),),
    ),
    "video_policy": Subjects(
        "video_policy_robocasa.yaml",
        ("policy.decoder.sampling_levels.steps", (1, 5, 30)),
        (
            *SMALL_SVD,
            "policy.extractor.backbone.frames=2",
            f"policy.extractor.backbone.latent={{type: vae, decode_frames: 7, {SMALL_VAE}}}",
            "policy.extractor.taps=[up3.1, up2.1, up1.1, up0.1]",
            "policy.extractor.adapter={stages: [[16, 4], [16, 4], [16, 4], [16, 4]], "
            "merges: [[16, 4], [16, 4], [16, 4]], squeeze: [[16, 4]], trunk: [[16, 4]], deep_layers: 0, halvings: 1, "
            "blocks: 1, halving_blocks: 1, deep_groups: 4, norm_groups: 4}",
            "policy.decoder.down_dims=[16, 32]",
        ),
        (("action", (4, 2)), ("video", (4, 2, 1))),
    ),
    "uva": Subjects(
        "uva_libero10.yaml",
        ("policy.action.head.sampling_steps", (16, 100)),
        (
            "policy.joint.image_size=[32, 32]",
            f"policy.joint.text={SMALL_TEXT}",
            "policy.joint.latent.channels=[32, 32, 32, 32, 32]",
            "policy.joint.latent.layers=1",
            "policy.joint.transformer={width: 48, depth: 1, heads: 4}",
            "policy.joint.video.width=16",
            "policy.joint.video.depth=1",
            "policy.action.head.width=16",
            "policy.action.head.depth=1",
        ),
        (("joint", (32, 16, 8)),),
    ),
}


def table(facts: dict[str, Any]) -> str:
    """The figures on a screen."""
    parts = ("encode", "video forward", "former", "action loop", "other")
    lines = ["model         steps mode      numbers    plan ms |" + "".join(f"{part[:8]:>9}" for part in parts)]
    lines[0] += " | floor ms  peak %   GB  differs"
    for row in facts["acting"]:
        shares = "".join(f"{1e3 * row['parts'].get(part, 0.0):9.2f}" for part in parts)
        lines.append(
            f"{row['model']:<13}{row['steps']:>5} {row['mode']:<9} {row['dtype']:<9}{1e3 * row['median']:>9.2f} |"
            f"{shares} |"
            f"{1e3 * row['floor']:>9.2f}{100 * row['share_of_peak']:>8.1f}{row['peak_memory_bytes'] / 1e9:>5.1f}"
            f"{row['difference']:>9.1e}"
        )
    lines.append("")
    for row in facts["training"]:
        if "error" not in row:
            lines.append(
                f"train {row['model']} {row['stage']}, {row['precision']}, batch {row['batch']}: "
                f"{row['samples_per_second']:.3g} samples/s, {row['peak_memory_bytes'] / 1e9:.1f} GB"
            )
    lines += [f"floor of {name}: {text}" for name, text in facts["floors"].items()]
    peaks = facts.get("peaks", {})
    lines.append("large products: " + ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in peaks.items()))
    lines += [f"not measured: {one['name']}: {one['error'][:150]}" for one in facts["sections"] if one["error"]]
    return "\n".join(lines)
