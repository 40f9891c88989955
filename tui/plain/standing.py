"""What is always in sight, in a cashier's words: network, what waits, card list, clock, reader."""

from datetime import datetime

from fleet.station import Freshness, Network, Status
from tui.text import LOCAL_ZONE, say, told, yuan

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_CLOCK_RIGHT_S = 5
"""Off by less than this many seconds is called right: an answer over HTTP tells no better."""


def age(seconds: int) -> str:
    """How long ago, roughly: a few columns."""
    if seconds < _MINUTE_S:
        # fits: 7
        return say("<1 min")
    if seconds < _HOUR_S:
        # fits: 7 count=59
        return say("{count} min", count=seconds // _MINUTE_S)
    if seconds < 2 * _DAY_S:
        # fits: 7 count=59
        return say("{count} h", count=seconds // _HOUR_S)
    # fits: 7 count=59
    return say("{count} d", count=seconds // _DAY_S)


def network_words(status: Status) -> str:
    """Whether clearing can be reached."""
    match status.network:
        case Network.ONLINE:
            # fits: 17
            return say("✓ Online")
        case Network.SENDING:
            # fits: 17
            return say("↑ Sending")
        case Network.OFFLINE:
            # fits: 17
            return say("! Offline, go on")
        case Network.NOT_SET:
            # fits: 17
            return say("- No clearing set")
        case _:
            # fits: 17
            return say("? Not tried yet")


def waiting_words(status: Status, now_s: int) -> str:
    """How many payments wait here, their sum, and since when."""
    if not status.waiting_count:
        # fits: 46
        return say("✓ Nothing to send")
    count, amount, oldest = status.waiting_count, yuan(status.waiting_fen), status.oldest_s
    if oldest is None:
        # fits: 46 count=9999 amount=999999.99
        return say("! {count} to send, {amount} yuan", count=count, amount=amount)
    old = age(oldest + max(0, now_s - status.now_s))
    # fits: 46 count=9999 amount=999999.99 age=59_min
    return say("! {count} to send, {amount} yuan, oldest {age}", count=count, amount=amount, age=old)


def reader_words(status: Status) -> str:
    """Whether cards can be read."""
    if status.reader.ok:
        # fits: 18
        return say("✓ Reader ready")
    # fits: 16
    return say("✗ Reader missing")


def denylist_words(status: Status, now_s: int) -> str:
    """How old the list of blocked cards is, and what that means."""
    seconds = status.denylist_age_s
    if status.denylist is Freshness.MISSING or seconds is None:
        # fits: 30
        return say("✗ No card list, can't sell")
    old = age(seconds + max(0, now_s - status.now_s))
    match status.denylist:
        case Freshness.STOPPED:
            # fits: 30 age=59_min
            return say("✗ Card list {age}, can't sell", age=old)
        case Freshness.TIGHT:
            # fits: 30 age=59_min
            return say("! Card list {age}, small only", age=old)
        case _:
            # fits: 30 age=59_min
            return say("✓ Card list {age}", age=old)


def clock_words(status: Status, now_s: int) -> str:
    """The time of day, and how far it is off clearing's."""
    time = datetime.fromtimestamp(now_s, LOCAL_ZONE).strftime("%H:%M")
    offset = status.clock_offset_s
    if offset is None:
        # fits: 27 time=12:00
        return say("{time} not checked", time=time)
    if abs(offset) < _CLOCK_RIGHT_S:
        # fits: 27 time=12:00
        return say("✓ {time} clock right", time=time)
    if abs(offset) < 10 * _MINUTE_S:
        # fits: 27 time=12:00 seconds=+599
        return say("! {time} clock off {seconds} s", time=time, seconds=f"{offset:+d}")
    minutes = round(offset / _MINUTE_S)
    # fits: 27 time=12:00 minutes=+1440
    return say("! {time} clock off {minutes} min", time=time, minutes=f"{minutes:+d}")


def review_words(status: Status) -> str:
    """What clearing did not book, where there is any."""
    if not status.review:
        return ""
    # fits: 13 count=99
    return say("! {count} to check", count=status.review)


def status_lines(status: Status, now_s: int) -> list[str]:
    """All of it, a line each."""
    reason = told(status.network_reason) if status.network is Network.OFFLINE else ""
    lines = [
        network_words(status),
        reason,
        waiting_words(status, now_s),
        review_words(status),
        denylist_words(status, now_s),
        clock_words(status, now_s),
        reader_words(status),
    ]
    return [line for line in lines if line]
