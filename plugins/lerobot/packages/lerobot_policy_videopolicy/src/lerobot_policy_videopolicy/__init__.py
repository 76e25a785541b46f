"""Policies trained by videopolicy as policies of LeRobot, which imports this package by its name."""

from lerobot_policy_videopolicy.configuration_videopolicy import VideoPolicyConfig
from lerobot_policy_videopolicy.modeling_videopolicy import VideoPolicyPolicy
from lerobot_policy_videopolicy.processor_videopolicy import make_videopolicy_pre_post_processors

__all__ = ["VideoPolicyConfig", "VideoPolicyPolicy", "make_videopolicy_pre_post_processors"]
