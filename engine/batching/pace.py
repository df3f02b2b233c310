"""How fast batches come out, and so when a slice's result may be expected: pure, as `policy` is.

Slices that cannot meet their deadline must not cost anything. Otherwise, under more load than the
machine can bear, each slice waits until its time is nearly up, then runs, and is late: the machine
is busy and nobody is served.

The time between the ends of two batches, divided by the later one's size, is what a slice costs,
whatever the rooms overlap. Full batches show it; a smaller one has its fixed cost spread over
fewer slices and counts only as the most that a slice can cost, which is how an estimate that one
stall spoilt comes down again. Mean and deviation are smoothed as round trips are by TCP (RFC 6298).

Whoever waits at the limit is late by any surprise, so some deviations are kept in hand: the more,
the less was spent on a slice. Two at the door, where a refusal costs nothing; one before it is
prepared; none before it is encoded, where dropping it empties a place in a batch.
"""

from __future__ import annotations

from collections import deque

_MEAN_GAIN = 1 / 8  # as in RFC 6298
_DEVIATION_GAIN = 1 / 4
AT_THE_DOOR, BEFORE_PREPARING, _BEFORE_ENCODING = 2.0, 1.0, 0.0
"""Deviations kept in hand."""


class Pace:
    """Follows batches from the encoder's door to their captions; they leave in order."""

    def __init__(self, max_batch: int) -> None:
        """Nothing is known yet, so nothing is too late.

        Args:
            max_batch: slices of a full batch.
        """
        self._max_batch = max_batch
        self._mean = self._deviation = 0.0
        self._under_way: deque[int] = deque()
        self._since = 0.0

    def seconds(self, deviations: float) -> float:
        """What a slice costs, with so many deviations; 0 until a full batch has shown it."""
        return self._mean + deviations * self._deviation

    def expected(self, slices: int, now: float, deviations: float) -> float:
        """When so many slices behind those under way will have their captions, by the clock.

        With nothing under way and one slice it is `now`: only running it tells whether the
        estimate still holds.

        Args:
            slices: those that are not under way yet, up to and with the one in question.
            now: the clock, in seconds.
            deviations: kept in hand.
        """
        if slices <= 1 and not self._under_way:
            return now
        seconds = self.seconds(deviations)
        free = self._since + sum(self._under_way) * seconds
        return max(now, free) + slices * seconds

    def enter(self, slices: int, began: float, now: float) -> float:
        """A batch goes into the encoder.

        Args:
            slices: its size.
            began: when its first slice was taken.
            now: the clock, in seconds.

        Returns:
            When it is expected to end; `now` if nothing is before it: it goes in any case.
        """
        alone = not self._under_way
        end = now if alone else self.expected(slices, now, _BEFORE_ENCODING)
        if alone:
            self._since = max(self._since, began)
        self._under_way.append(slices)
        return end

    def leave(self, ran: int, now: float) -> None:
        """The first of the batches under way has its captions, or failed.

        Args:
            ran: slices that were captioned; 0 if none was.
            now: the clock, in seconds.
        """
        self._under_way.popleft()
        seconds, self._since = now - self._since, now
        if ran:
            self._learn(seconds / ran, full=ran == self._max_batch)

    def _learn(self, seconds: float, *, full: bool) -> None:
        if not self._mean:
            if full:
                self._mean, self._deviation = seconds, seconds / 2.0
        elif full or seconds < self._mean:
            self._deviation += _DEVIATION_GAIN * (abs(seconds - self._mean) - self._deviation)
            self._mean += _MEAN_GAIN * (seconds - self._mean)
        else:  # a full batch's slice costs no more than a small one's: more is not kept in hand
            most = (seconds - self._mean) / AT_THE_DOOR
            self._deviation += _DEVIATION_GAIN * min(most - self._deviation, 0.0)
