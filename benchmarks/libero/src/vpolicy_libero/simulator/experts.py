"""Scripted experts for tasks of LIBERO, by the name of the task's BDDL file.

They look at the simulation's own state (which no policy sees), draw nothing at random and run in the simulator's
environment. Distances are in metres and angles in radians; grasps are relative to an object's position.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np
from experts_motion import CLOSED, OPEN, Expert, Motion
from experts_poses import DOWN, about_x, vector

QUARTER = np.pi / 2

# A mug's position is not its axis: these are points of its rim away from its handle.
RIM = {"porcelain_mug_1": (0.0, -0.057, 0.078), "white_yellow_mug_1": (0.0, 0.061, 0.075)}
HANDLE_BAR = (0.003, 0.102, 0.110)  # of the middle drawer, relative to its body
MOKA_HANDLE = (0.0, -0.068, 0.045)


class Stove(Expert):
    """Turns the knob of the flat stove."""

    def turn_knob(self) -> Motion:
        """Close the fingers on the knob's blade, then turn the wrist until the joint is past LIBERO's limit of 0.5."""
        knob = self.part("flat_stove_1_button")
        # On the front part of the blade: the rear one is closer to the robot's base than the arm reaches down.
        blade = knob + vector(0.015, 0.0, 0.05)
        yield from self.reach(blade + vector(0.0, 0.0, 0.07), near=0.015)
        yield from self.reach(blade, speed=0.6, steps=25)
        yield from self.wait(CLOSED, 6)
        yield from self.reach(
            blade, 1.2, CLOSED, steps=60, turned=0.05, until=lambda: self.joint("flat_stove_1_button") > 0.7
        )
        yield from self.wait(OPEN, 4)
        yield from self.reach(knob + vector(0.0, 0.0, 0.2), near=0.03)


class TurnOnStove(Stove):
    """Only turns the knob."""

    def script(self) -> Motion:
        yield from self.turn_knob()


class StoveAndMokaPot(Stove):
    """The knob first, then the moka pot by its handle."""

    def script(self) -> Motion:
        yield from self.turn_knob()
        yield from self.pick("moka_pot_1", MOKA_HANDLE, QUARTER, above=0.12, close=12)
        burner = self.region("flat_stove_1_cook_region")
        yield from self.put("moka_pot_1", [burner[0], burner[1], 1.0], QUARTER)


class MugAndPudding(Expert):
    """The mug by its rim onto the plate, then the pudding beside it."""

    def script(self) -> Motion:
        yield from self.pick("porcelain_mug_1", RIM["porcelain_mug_1"], close=12)
        yield from self.put("porcelain_mug_1", self.object("plate_1") + vector(0.0, 0.0, 0.012))
        yield from self.pick("chocolate_pudding_1", (0.0, 0.0, 0.005), lift=0.12)
        right = self.region("living_room_table_plate_right_region")
        yield from self.put("chocolate_pudding_1", [right[0], right[1] + 0.01, 0.455])


class OpenMiddleDrawer(Expert):
    """Pulls at the bar of the middle drawer."""

    def script(self) -> Motion:
        # The hand lies down, because the drawers' handles are above each other: fingers above and below the bar.
        lying = about_x(-1.3) @ DOWN
        bar = self.part("wooden_cabinet_1_cabinet_middle") + HANDLE_BAR
        yield from self.reach(bar + vector(0.0, 0.10, 0.0), rotation=lying, near=0.02, turned=0.15)
        yield from self.reach(bar, rotation=lying, speed=0.6, steps=30)
        yield from self.wait(CLOSED, 8)
        yield from self.reach(bar + vector(0.0, 0.22, 0.0), gripper=CLOSED, rotation=lying, steps=60)


class PushPlate(Expert):
    """Drags the plate with closed fingers."""

    def script(self) -> Motion:
        front = self.region("main_table_stove_front_region")
        path = front - self.object("plate_1")
        # Closed fingers inside the plate, against the part of the rim that leads: pulled, it cannot turn aside.
        inside = self.object("plate_1") + 0.045 * path / np.linalg.norm(path)
        inside[2] = self.object("plate_1")[2] + 0.02
        yield from self.reach(inside + vector(0.0, 0.0, 0.08), gripper=CLOSED, near=0.02)
        yield from self.reach(inside, gripper=CLOSED, speed=0.6, steps=30)
        height = vector(0.0, 0.0, inside[2])

        def onwards() -> np.ndarray:
            return (self.hand() + front - self.object("plate_1")) * vector(1.0, 1.0, 0.0) + height

        yield from self.reach(onwards, gripper=CLOSED, speed=0.6, steps=80)
        yield from self.rise(0.12, gripper=CLOSED)


EXPERTS: Mapping[str, type[Expert]] = {
    "turn_on_the_stove": TurnOnStove,
    "open_the_middle_drawer_of_the_cabinet": OpenMiddleDrawer,
    "push_the_plate_to_the_front_of_the_stove": PushPlate,
    "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it": StoveAndMokaPot,
    "LIVING_ROOM_SCENE6_put_the_white_mug_on_the_plate_and_put_the_chocolate_pudding_to_the_right_of_the_plate": (
        MugAndPudding
    ),
}
