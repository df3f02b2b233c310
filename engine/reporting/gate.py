"""When a server may be asked: circuit breaker and rate limit in one, with the clock handed in.

closed ──failures in a row──► open ──pause over──► half-open: one probe
   ▲                            ▲                       │
   └────────── success ─────────┼───────────────────────┤
                                └──────── failure ──────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from ..errors import CircuitOpenError

State = Literal["closed", "open", "half-open"]


class Gate:
    """Counts failures in a row; not shared between event loops."""

    def __init__(
        self, failures: int, pause: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open after `failures` in a row; let one probe through after `pause` seconds."""
        self._limit, self._pause, self._clock = failures, pause, clock
        self._failed = 0
        self._open_until: float | None = None
        self._quiet_until = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """Where the breaker stands now."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    def admit(self) -> float:
        """Ask for one call, which then must end in `succeeded`, `failed` or `abandoned`.

        Returns:
            Seconds to wait first, because the server wants to be left alone; 0 is now. After
            waiting, ask again.

        Raises:
            CircuitOpenError: no call may be made.
        """
        if self._open_until is not None:
            wait = self._open_until - self._clock()
            if wait > 0 or self._probing:
                raise CircuitOpenError(
                    f"the server failed {self._failed} times in a row; next try in "
                    f"{max(wait, 0.0):.0f} s"
                )
            self._probing = True
            return 0.0
        return max(0.0, self._quiet_until - self._clock())

    def succeeded(self) -> None:
        """The call was answered."""
        self._failed, self._open_until, self._probing = 0, None, False

    def failed(self, retry_after: float | None = None) -> None:
        """The call failed; `retry_after` is how long the server wants to be left alone."""
        now = self._clock()
        self._failed += 1
        self._quiet_until = max(self._quiet_until, now + (retry_after or 0.0))
        if self._probing or self._failed >= self._limit:
            self._open_until = max(now + self._pause, self._quiet_until)
        self._probing = False

    def abandoned(self) -> None:
        """The caller gave up before the server did: says nothing about the server."""
        self._probing = False
