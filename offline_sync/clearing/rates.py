"""How often somebody may ask: token buckets, one for each who asks, in bounded memory. The clock comes in."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class Rates:
    """A bucket of `burst` tokens for each name; one is taken for each request, `per_second` come back."""

    def __init__(
        self, per_second: float, burst: int, stopwatch: Callable[[], float], capacity: int = 10_000
    ) -> None:
        """`stopwatch` gives monotonic seconds. Of more than `capacity` names the longest unused are
        forgotten."""
        self._per_second = per_second
        self._burst = burst
        self._stopwatch = stopwatch
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait_s(self, name: Hashable) -> float:
        """Seconds until `name` may ask again; 0 when it may now. Takes nothing."""
        bucket = self._filled(name)
        return 0.0 if bucket.tokens >= 1 else (1 - bucket.tokens) / self._per_second

    def take(self, name: Hashable) -> float:
        """As `wait_s`, and takes a token when there is one."""
        wait_s = self.wait_s(name)
        if not wait_s:
            self._buckets[name].tokens -= 1
        return wait_s

    def _filled(self, name: Hashable) -> _Bucket:
        now = self._stopwatch()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._burst, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_s) * self._per_second)
        bucket.filled_s = now
        return bucket
