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
GRASP = {"butter_1": (0.0, -0.016, 0.006), "cream_cheese_1": (0.0, 0.0, 0.006)}  # the wide hand clears the basket
BOWL_RIM = (0.0, 0.047, 0.040)  # the side that is away from the cabinet
HANDLE_BAR = (0.003, 0.102, 0.110)  # of the middle drawer, relative to its body
MOKA_HANDLE = (0.0, -0.068, 0.045)


class Stove(Expert):
    """What is done at the flat stove."""

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

    def moka_pot(self, name: str, shift: float = 0.0) -> Motion:
        """Put a moka pot onto the burner by its handle, shifted along x."""
        yield from self.pick(name, MOKA_HANDLE, QUARTER, above=0.12, close=12)
        burner = self.region("flat_stove_1_cook_region")
        yield from self.put(name, vector(burner[0] + shift, burner[1], 1.0), QUARTER)


class TurnOnStove(Stove):
    """Only turns the knob."""

    def script(self) -> Motion:
        yield from self.turn_knob()


class StoveAndMokaPot(Stove):
    """The knob first, then the moka pot."""

    def script(self) -> Motion:
        yield from self.turn_knob()
        yield from self.moka_pot("moka_pot_1")


class MugAndPudding(Expert):
    """The mug by its rim onto the plate, then the pudding beside it."""

    def script(self) -> Motion:
        yield from self.pick("porcelain_mug_1", RIM["porcelain_mug_1"], close=12)
        yield from self.put("porcelain_mug_1", self.object("plate_1") + vector(0.0, 0.0, 0.012))
        yield from self.pick("chocolate_pudding_1", (0.0, 0.0, 0.005), lift=0.12)
        right = self.region("living_room_table_plate_right_region")
        yield from self.put("chocolate_pudding_1", [right[0], right[1] + 0.01, 0.455])


class BothMokaPots(Stove):
    """The farther moka pot first, side by side on the burner."""

    def script(self) -> Motion:
        for name, shift in (("moka_pot_2", 0.045), ("moka_pot_1", -0.045)):
            yield from self.moka_pot(name, shift)


class TwoMugs(Expert):
    """Each mug by its rim onto its plate."""

    def script(self) -> Motion:
        for mug, plate in (("porcelain_mug_1", "plate_1"), ("white_yellow_mug_1", "plate_2")):
            yield from self.pick(mug, RIM[mug], close=12)
            yield from self.put(mug, self.object(plate) + vector(0.0, 0.0, 0.012))


class Basket(Expert):
    """Two things into the basket, one after the other."""

    things: tuple[str, str]

    def script(self) -> Motion:
        for thing, shift in zip(self.things, (-0.02, 0.02)):
            yield from self.pick(thing, GRASP.get(thing, (0.0, 0.0, 0.0)), lift=0.2)
            inside = self.region("basket_1_contain_region") + vector(shift, 0.0, 0.09)
            yield from self.put(thing, inside, above=0.06, near=0.015, retreat=0.08)


class SoupAndTomatoSauce(Basket):
    """Both cans."""

    things = ("alphabet_soup_1", "tomato_sauce_1")


class SoupAndCreamCheese(Basket):
    """A can and a box."""

    things = ("alphabet_soup_1", "cream_cheese_1")


class CreamCheeseAndButter(Basket):
    """Two flat boxes."""

    things = ("cream_cheese_1", "butter_1")


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
    """Takes the plate by the rim that leads and drags it over the table, round the cream cheese."""

    def script(self) -> Motion:
        front = self.region("main_table_stove_front_region")
        beside, goal = front + vector(0.10, 0.02, 0.0), front + vector(0.02, 0.03, 0.0)
        for _ in range(4):  # the thin rim slips now and then
            yield from self.take_rim()
            if self.object("plate_1")[1] < beside[1] - 0.04:
                yield from self.drag(beside, near=0.04)
            yield from self.drag(goal, near=0.01)
            yield from self.wait(OPEN, 6)
            yield from self.rise(0.08)
            if np.linalg.norm((self.object("plate_1") - goal)[:2]) < 0.02:
                break

    def take_rim(self) -> Motion:
        """Grasp the rim on the side that is away from the cabinet."""
        rim = self.object("plate_1") + vector(0.0, 0.06, 0.004)
        yield from self.reach(rim + vector(0.0, 0.0, 0.08), near=0.02)
        yield from self.reach(rim, near=0.012, speed=0.6, steps=30)
        yield from self.wait(CLOSED, 12)

    def drag(self, goal: np.ndarray, near: float) -> Motion:
        """Drag the plate to a place on the table, or until it is no longer in the hand."""
        low = self.object("plate_1")[2]

        def onwards() -> np.ndarray:
            way = goal - self.object("plate_1")
            return vector(self.hand()[0] + way[0], self.hand()[1] + way[1], low)

        def lost() -> bool:
            return bool(np.linalg.norm((self.hand() - self.object("plate_1"))[:2]) > 0.085)

        yield from self.reach(onwards, gripper=CLOSED, near=near, speed=0.7, steps=60, until=lost)


class BowlOnPlate(Expert):
    """The bowl by its rim onto the plate."""

    def script(self) -> Motion:
        yield from self.pick("akita_black_bowl_1", BOWL_RIM, close=12)
        yield from self.put("akita_black_bowl_1", self.object("plate_1") + vector(0.0, 0.0, 0.02))


class BowlOnStove(Expert):
    """The bowl by its rim onto the burner."""

    def script(self) -> Motion:
        yield from self.pick("akita_black_bowl_1", BOWL_RIM, close=12)
        burner = self.region("flat_stove_1_cook_region")
        yield from self.put("akita_black_bowl_1", burner + vector(0.0, 0.0, 0.03))


EXPERTS: Mapping[str, type[Expert]] = {
    # libero_goal
    "turn_on_the_stove": TurnOnStove,
    "open_the_middle_drawer_of_the_cabinet": OpenMiddleDrawer,
    "push_the_plate_to_the_front_of_the_stove": PushPlate,
    "put_the_bowl_on_the_plate": BowlOnPlate,
    "put_the_bowl_on_the_stove": BowlOnStove,
    # libero_10
    "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it": StoveAndMokaPot,
    "KITCHEN_SCENE8_put_both_moka_pots_on_the_stove": BothMokaPots,
    "LIVING_ROOM_SCENE1_put_both_the_alphabet_soup_and_the_cream_cheese_box_in_the_basket": SoupAndCreamCheese,
    "LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket": SoupAndTomatoSauce,
    "LIVING_ROOM_SCENE2_put_both_the_cream_cheese_box_and_the_butter_in_the_basket": CreamCheeseAndButter,
    "LIVING_ROOM_SCENE5_put_the_white_mug_on_the_left_plate_and_put_the_yellow_and_white_mug_on_the_right_plate": (
        TwoMugs
    ),
    "LIVING_ROOM_SCENE6_put_the_white_mug_on_the_plate_and_put_the_chocolate_pudding_to_the_right_of_the_plate": (
        MugAndPudding
    ),
}
