"""The version of ``calvin_env`` (MIT) that the simulator runs: code, configuration, tables, robot and blocks."""

from __future__ import annotations

from videopolicy import Checkout

CHECKOUT = Checkout(
    url="https://github.com/mees/calvin_env",
    commit="797142c588c21e76717268b7b430958dbd13bf48",
    digests={
        "calvin_env": "891d5b5da53c452e8556a454d31bfa94379fbe27663226a1a47bd73c5c04daca",
        "conf": "894fd7d760a88df8a24999e034794357cdaf86971bad0b6405b527aa17bd4adf",
        "data": "f9487c07cbae7d0a6a66fcd86d1773a33d74a2873c9166edff7421cd5d01a5af",
    },
)
"""The last commit, of December 2022. The one that mees/calvin names as a submodule, 1431a46, is another."""
