# SPDX-License-Identifier: Apache-2.0
"""How far behind its source a stream is read, by the times that it carries."""

from __future__ import annotations

#: A read that waited so long, in nanoseconds, found nothing that was there already.
WAITED = 5_000_000


class LiveEdge:
    """Maps a stream's own times to this machine's, as of the moment when its images came.

    A stream that is read slower than it comes piles up, in the network or in the driver, and what
    is read then came long ago. Whatever had to be waited for had not.
    """

    def __init__(self) -> None:
        self._offset: int | None = None

    def behind(self, time: int, waited: int, now: int) -> int:
        """Note what has just been read; how long ago it came, in nanoseconds.

        Args:
            time: in the stream's own time, nanoseconds.
            waited: nanoseconds that reading it took.
            now: this machine's time.
        """
        offset = now - time
        if self._offset is None or waited >= WAITED or offset < self._offset:
            self._offset = offset
        return offset - self._offset

    def came(self, time: int | None, now: int) -> int:
        """When an image came, in this machine's time: now, if the stream does not tell.

        Args:
            time: in the stream's own time, nanoseconds.
        """
        if time is None or self._offset is None:
            return now
        return min(now, time + self._offset)
