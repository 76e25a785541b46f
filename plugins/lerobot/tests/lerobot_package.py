"""Runs in an environment that has LeRobot: opens what we wrote, and trains on it. Prints one JSON object.

python lerobot_package.py DATASET [steps of training]
"""

import json
import sys
import time

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def numbers(image):
    """What a picture ``(3, h, w)`` says, see `lerobot_samples.picture`."""
    height, width = image.shape[1:]
    fields = image.mean(0).reshape(2, height // 2, 4, width // 4).mean(dim=(1, 3)).reshape(-1) > 0.5
    return int(sum(1 << bit for bit in range(8) if fields[bit]))


def main():
    torch.set_num_threads(1)
    root, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    dataset = LeRobotDataset("local/exported", root=root, video_backend="pyav")
    items = [dataset[index] for index in range(len(dataset))]
    cameras = dataset.meta.camera_keys
    said = {
        "frames": {key: [numbers(item[key]) for item in items] for key in cameras},
        "episodes": [int(item["episode_index"]) for item in items],
        "tasks": [item["task"] for item in items],
        "actions": [item["action"].tolist() for item in items],
        "state": [torch.atleast_1d(item["observation.state"]).tolist() for item in items],
        "fps": dataset.fps,
        "stats": {key: dataset.meta.stats[key]["mean"].reshape(-1).tolist() for key in ("action", *cameras)},
    }
    if steps:
        said["losses"], said["seconds"] = trained(root, steps)
    print(json.dumps(said))


def trained(root, steps):
    """Losses of a small ACT policy, in so many steps."""
    from lerobot.configs.types import FeatureType
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot.utils.feature_utils import dataset_to_policy_features

    torch.manual_seed(0)
    meta = LeRobotDataset("local/exported", root=root, video_backend="pyav").meta
    features = dataset_to_policy_features(meta.features)
    camera = meta.camera_keys[0]
    outputs = {key: one for key, one in features.items() if one.type is FeatureType.ACTION}
    inputs = {key: one for key, one in features.items() if key in (camera, "observation.state")}
    config = ACTConfig(
        input_features=inputs, output_features=outputs, chunk_size=4, n_action_steps=4, dim_model=32, n_heads=2,
        dim_feedforward=64, n_encoder_layers=1, n_vae_encoder_layers=1, pretrained_backbone_weights=None, device="cpu",
        optimizer_lr=1e-3,
    )  # fmt: skip
    delta = {"action": [index / meta.fps for index in range(4)]}
    dataset = LeRobotDataset("local/exported", root=root, video_backend="pyav", delta_timestamps=delta)
    policy = ACTPolicy(config).train()
    before, _ = make_pre_post_processors(config, dataset_stats=meta.stats)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    batches = iter(torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True))
    losses, begun = [], time.monotonic()
    while len(losses) < steps:
        try:
            batch = next(batches)
        except StopIteration:
            batches = iter(torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True))
            continue
        loss, _ = policy.forward(before(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, time.monotonic() - begun


if __name__ == "__main__":
    main()
