"""Complete recipes on the toy benchmark: a linear policy, or a video model of a few thousand weights and a decoder."""

from __future__ import annotations

from videopolicy.testing import toy_benchmark, toys

_WHOLE = f"""\
plugins: [{toy_benchmark.__file__}, {toys.__file__}]
benchmark: {{type: toy, task_names: [%(tasks)s]%(steps)s}}
data: {{type: robomimic-hdf5, %(data)s}}
policy: %(policy)s
train:
%(train)seval: {{%(evaluation)s}}
tracking: []
"""
_VIDEO_POLICY = """
  type: modular
  extractor:
    type: one-step
    backbone:
      type: svd
      image_size: [16, 16]
      frames: 2
      stride: 2
      latent: {type: space-to-depth, patch: 4}
      text: {type: word-text, width: 16}
      double_text: false
      unet: {channels: [32], heads: [2], attention: [true], layers: 1, time_ids_width: 8}
    taps: [up0]
    former: {type: video-former, dim: 32, depth: 1, heads: 2, dim_head: 16, latents_per_frame: 2}
  decoder: {%s}"""
DIFFUSION = "type: dit-diffusion, horizon: 4, text: {type: word-text, width: 16}, width: 32, heads: 2"


def linear(evaluation: str, tasks: str = "red, blue") -> str:
    """A policy that maps mean colours to actions, trained for four steps on three demonstrations a task.

    Args:
        evaluation: Options of ``eval``.
        tasks: Names of the benchmark's tasks.
    """
    return _WHOLE % {
        "tasks": tasks,
        "steps": ", max_steps: 12",
        "data": "episodes_per_task: 3",
        "policy": "{type: toy}",
        "train": "  - {name: policy, steps: 4, batch_size: 4}\n",
        "evaluation": evaluation,
    }


def video(
    train: tuple[str, ...],
    evaluation: str,
    decoder: str = DIFFUSION,
    tasks: str = "red, blue",
    data: str = "episodes_per_task: 3",
) -> str:
    """A policy of real parts on features of a small video model.

    Args:
        train: Options of every stage.
        evaluation: Options of ``eval``.
        decoder: Options of the decoder, its type among them.
        tasks: Names of the benchmark's tasks.
        data: Options of the demonstrations.
    """
    return _WHOLE % {
        "tasks": tasks,
        "steps": "",
        "data": data,
        "policy": _VIDEO_POLICY % decoder,
        "train": "".join(f"  - {{{stage}}}\n" for stage in train),
        "evaluation": evaluation,
    }
