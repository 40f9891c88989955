"""What is always in sight, in a cashier's words: network, what waits, card list, clock, reader."""

from datetime import datetime

from fleet.station import Freshness, Network, Status
from tui.text import LOCAL_ZONE, say, yuan

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_CLOCK_RIGHT_S = 5
"""Off by less than this many seconds is called right: an answer over HTTP tells no better."""


def age(seconds: int) -> str:
    """How long ago, roughly: a few columns."""
    if seconds < _MINUTE_S:
        # fits: 8
        return say("<1 min")
    if seconds < _HOUR_S:
        # fits: 8
        return say("{count} min", count=seconds // _MINUTE_S)
    if seconds < 2 * _DAY_S:
        # fits: 8
        return say("{count} h", count=seconds // _HOUR_S)
    # fits: 8
    return say("{count} d", count=seconds // _DAY_S)


def network_words(status: Status) -> str:
    """Whether clearing can be reached."""
    match status.network:
        case Network.ONLINE:
            # fits: 20
            return say("✓ Online")
        case Network.SENDING:
            # fits: 20
            return say("↑ Sending")
        case Network.OFFLINE:
            # fits: 20
            return say("! Offline, sell on")
        case Network.NOT_SET:
            # fits: 20
            return say("- No clearing set")
        case _:
            # fits: 20
            return say("? Not tried yet")


def waiting_words(status: Status, now_s: int) -> str:
    """How many payments wait here, their sum, and since when."""
    if not status.waiting_count:
        # fits: 40
        return say("✓ Nothing to send")
    oldest = status.oldest_s
    if oldest is None:
        # fits: 40
        return say(
            "! {count} to send, {amount} yuan", count=status.waiting_count, amount=yuan(status.waiting_fen)
        )
    # fits: 40
    return say(
        "! {count} to send, {amount} yuan, oldest {age}",
        count=status.waiting_count,
        amount=yuan(status.waiting_fen),
        age=age(oldest + max(0, now_s - status.now_s)),
    )


def reader_words(status: Status) -> str:
    """Whether cards can be read."""
    if status.reader.ok:
        # fits: 18
        return say("✓ Reader ready")
    # fits: 18
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
            # fits: 30
            return say("✗ Card list {age}, can't sell", age=old)
        case Freshness.TIGHT:
            # fits: 30
            return say("! Card list {age}, small only", age=old)
        case _:
            # fits: 30
            return say("✓ Card list {age}", age=old)


def clock_words(status: Status, now_s: int) -> str:
    """The time of day, and how far it is off clearing's."""
    time = datetime.fromtimestamp(now_s, LOCAL_ZONE).strftime("%H:%M")
    offset = status.clock_offset_s
    if offset is None:
        # fits: 28
        return say("{time} not checked", time=time)
    if abs(offset) < _CLOCK_RIGHT_S:
        # fits: 28
        return say("✓ {time} clock right", time=time)
    off = f"{offset:+d}"
    # fits: 28
    return say("! {time} clock off {seconds} s", time=time, seconds=off)


def review_words(status: Status) -> str:
    """What clearing did not book, where there is any."""
    if not status.review:
        return ""
    # fits: 18
    return say("! {count} to review", count=status.review)


def status_lines(status: Status, now_s: int) -> list[str]:
    """All of it, a line each."""
    lines = [
        network_words(status),
        waiting_words(status, now_s),
        review_words(status),
        denylist_words(status, now_s),
        clock_words(status, now_s),
        reader_words(status),
    ]
    return [line for line in lines if line]
