"""A server whose disk is full.

No file of it may grow beyond a few kilobytes: the kernel's limit for the process. A write past it
fails as on a full disk, but for the number of the error. Healed as its operator would: there is
room again, and the server is started anew. Until then JetStream refuses to write the stream.
"""

import resource
import signal
from typing import Final

from tests.torture.faults.processes import ServerFault

_ROOM: Final = 64 * 1024


class DiskFull(ServerFault):
    async def begin(self) -> None:
        self._limit(_ROOM)

    async def heal(self) -> None:
        if self.server.death() is None:
            self._limit(resource.RLIM_INFINITY)
            await self.world.end(self.server, signal.SIGTERM)
        self.world.ended(self.server)
        await self.server.start()

    def _limit(self, size: int) -> None:
        _, hard = resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE)
        wanted = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (wanted, hard))
