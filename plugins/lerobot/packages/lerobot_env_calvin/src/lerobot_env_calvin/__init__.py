"""CALVIN as an environment of LeRobot, which imports this package by its name."""

from lerobot_env_calvin.configuration_calvin import CalvinEnvConfig
from lerobot_env_calvin.environments import CalvinEnvironments

__all__ = ["CalvinEnvConfig", "CalvinEnvironments"]
