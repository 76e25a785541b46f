"""Runs in an environment that has LeRobot and our two packages for it. Prints one JSON object.

python lerobot_evaluation.py actions RUN OBSERVATIONS.npz FOLDER
python lerobot_evaluation.py chains
"""

import dataclasses
import json
import sys

import gymnasium as gym
import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.envs import EnvConfig, close_envs, make_env_config, preprocess_observation
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.factory import make_policy_config
from lerobot.utils.import_utils import register_third_party_plugins

RENAMED = "observation.images.over_the_table"


@EnvConfig.register_subclass("toy")
@dataclasses.dataclass
class ToyEnvConfig(EnvConfig):
    """What LeRobot knows of the toy benchmark."""

    camera: str = "top"

    def __post_init__(self):
        self.features = {
            "action": PolicyFeature(FeatureType.ACTION, (2,)),
            f"pixels/{self.camera}": PolicyFeature(FeatureType.VISUAL, (16, 16, 3)),
        }
        self.features_map = {key: key.replace("pixels/", "observation.images.") for key in self.features}

    @property
    def gym_kwargs(self):
        return {}


def actions(run, observations, folder):
    """Of two robots at once: through LeRobot, through a folder of its own with another camera's name, and directly."""
    import videopolicy

    data = np.load(observations)
    pictures, states, sentences = data["pictures"], data["states"], [str(one) for one in data["sentences"]]
    env = make_env_config("toy")
    config = make_policy_config("videopolicy", run=run, trust=True, device="cpu", seed=5)
    policy = make_policy(config, env_cfg=env)
    found = {"through": played(policy, make_pre_post_processors(config), pictures, states, sentences, "top")}
    policy.save_pretrained(folder)
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
    config.pretrained_path = folder
    renamed = {RENAMED: "observation.images.top"}
    processors = make_pre_post_processors(
        config,
        pretrained_path=folder,
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "rename_observations_processor": {"rename_map": renamed},
        },
    )
    policy = make_policy(config, env_cfg=make_env_config("toy", camera="over_the_table"), rename_map=renamed)
    found["folder"] = played(policy, processors, pictures, states, sentences, "over_the_table")
    direct = videopolicy.load(run, "cpu", trust=True)
    chosen = []
    for row, sentence in enumerate(sentences):
        direct.reset(5 + len(sentences) + row)  # the episodes before had the first seeds
        chosen.append(
            [
                direct.step({"top": picture}, state, sentence).tolist()
                for picture, state in zip(pictures[row], states[row], strict=True)
            ]
        )
    found["direct"] = chosen
    return found


def played(policy, processors, pictures, states, sentences, camera):
    """Actions ``(B, n, A)`` of two episodes, the second after another one that was given up after two steps."""
    before, behind = processors
    for steps in (2, pictures.shape[1]):
        policy.reset()
        chosen = []
        for step in range(steps):
            seen = preprocess_observation({"pixels": {camera: pictures[:, step]}, "agent_pos": states[:, step]})
            seen["task"] = list(sentences)
            with torch.inference_mode():
                chosen.append(behind(policy.select_action(before(seen))).numpy())
    return np.stack(chosen, axis=1).tolist()


def chains():
    """Two toy chains of three colours, the one solved by looking at pictures, the other left alone."""
    from lerobot_env_calvin import CalvinEnvironments

    from videopolicy.testing.toy_benchmark import ToyBenchmark
    from videopolicy.testing.toy_simulator import COLORS, SPEED

    benchmark = ToyBenchmark(task_names=("red",), chain=3, max_steps=25, image_size=64, stored=4)
    envs = {"toy": {0: CalvinEnvironments(benchmark, benchmark.tasks()[0], 2)}}
    env = envs["toy"][0]
    assert isinstance(env, gym.vector.VectorEnv) and env.call("_max_episode_steps") == (75, 75)
    seen, info = env.reset(seed=[7, 8])  # the initial states 3 and 0
    first, rewards, told, rested = seen["pixels"]["top"].copy(), [], [], None
    over = np.zeros(2, bool)
    while not over.all():
        sentence = env.call("task_description")[0]
        color = next(name for name in COLORS if name in sentence)
        place = np.argwhere((np.abs(seen["pixels"]["top"][0].astype(int) - COLORS[color]) < 30).all(-1))
        target = (place.mean(0)[::-1] + 0.5) / 64
        chosen = np.zeros((2, 2), np.float32)
        chosen[0] = np.clip((target - seen["agent_pos"][0][:2]) / SPEED, -1, 1)
        if over[1]:
            rested = rested if rested is not None else seen["agent_pos"][1].tolist()
            chosen[1] = 1.0
        seen, reward, terminated, truncated, info = env.step(chosen)
        over = terminated | truncated
        rewards.append(reward.tolist())
        told.append(env.call("task_description")[0])
    again, _ = env.reset(seed=[3, 0])
    said = {
        "rewards": np.sum(rewards, axis=0).tolist(),
        "steps": len(rewards),
        "ended": [terminated.tolist(), truncated.tolist(), info["is_success"].tolist()],
        "told": list(dict.fromkeys(told)),
        "rested": rested == seen["agent_pos"][1].tolist(),
        "same": bool(np.array_equal(again["pixels"]["top"], first)),
        "rendered": [one.shape for one in env.call("render")],
    }
    close_envs(envs)
    return said


if __name__ == "__main__":
    torch.set_num_threads(1)
    register_third_party_plugins()
    print(json.dumps({"actions": actions, "chains": chains}[sys.argv[1]](*sys.argv[2:])))
