"""A role whose clock is minutes off."""

import os
from functools import partial
from pathlib import Path
from typing import Final

from tests.torture.faults.base import Maker
from tests.torture.faults.processes import KINDS, RoleFault

_FOLDER: Final = Path(__file__).parents[1] / "clock"
_OFF: Final = (-900, -240, -60, 60, 240, 900)


class ClockOff(RoleFault):
    """It starts anew with a clock that is off, and once more with the right one."""

    async def begin(self) -> None:
        paths = [str(_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        await self.world.leave(self.name)
        await self.world.start(
            self.name,
            PYTHONPATH=os.pathsep.join(paths),
            TORTURE_CLOCK_SECONDS=str(self.chance.choice(_OFF)),
        )

    async def heal(self) -> None:
        await self.world.leave(self.name)
        await self.world.start(self.name)


CLOCKS: Final[dict[str, Maker]] = {f"clock-{kind}": partial(ClockOff, kind) for kind in KINDS}
