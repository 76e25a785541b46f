"""``python -m vpolicy_worker``: serve one simulator to the core, or say whether it can render here."""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys

from vpolicy_worker.server import load_module, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="vpolicy_worker", description=__doc__)
    parser.add_argument("--module", required=True, help="Python file that defines the simulator")
    parser.add_argument("--simulator", help="name of the Simulator class in it")
    parser.add_argument("--connect", help="Unix-domain socket on which the core listens")
    parser.add_argument("--config", default="{}", help="keyword arguments of the class, as JSON")
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds after which a call has hung; 0: never")
    parser.add_argument(
        "--check-rendering", action="store_true", help="call the module's check_rendering(), print what it says and end"
    )
    faulthandler.enable()
    options = parser.parse_args()
    if options.check_rendering:
        return check_rendering(options.module)
    if not options.connect or not options.simulator:
        parser.error("--connect and --simulator are required")
    serve(options.connect, options.module, options.simulator, json.loads(options.config), options.timeout)
    return 0


def check_rendering(path: str) -> int:
    """Print one line that says what renders (exit status 0) or why nothing does (1)."""
    try:
        module = load_module(path)
        if not hasattr(module, "check_rendering"):
            print("this simulator needs no rendering backend")
            return 0
        print(module.check_rendering())
    except Exception as error:  # whatever a graphics driver raises, or a module that cannot be imported, is the answer
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
