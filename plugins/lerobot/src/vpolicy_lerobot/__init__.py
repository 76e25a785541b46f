"""Demonstrations in LeRobot's formats."""
