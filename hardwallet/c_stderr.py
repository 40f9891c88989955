"""Keeps a C library from writing to standard error while one call into it lasts.

A file descriptor belongs to the whole process: redirecting number 2 would swallow what other threads write.
In glibc `stderr` is a variable that a program may set (The GNU C Library, 12.2, "Standard Streams"): here it
names /dev/null during the call. What Python or anybody else writes to descriptor 2 arrives as ever. With
another C library nothing is changed, and the call may print.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_lock = threading.Lock()
# A child that was forked during a call would keep the silence, and the lock.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """While it lasts, what C code writes to its `stderr` is dropped. One thread at a time; keep it short."""
    with _lock:  # for the first look at `stderr` too: it must not be another thread's silent one
        streams = _streams()
        if streams is None:
            yield
            return
        stderr, spoken, silent = streams
        stderr.value = silent
        try:
            yield
        finally:
            stderr.value = spoken


@cache
def _streams() -> tuple[ctypes.c_void_p, int, int] | None:
    """glibc's variable, the stream that it names, and one on /dev/null. None without glibc."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.fopen.restype = ctypes.c_void_p
    silent = library.fopen(os.devnull.encode(), b"we")
    stderr = ctypes.c_void_p.in_dll(library, "stderr")
    return None if not silent or not stderr.value else (stderr, stderr.value, silent)
