"""Children of a fork end, though the threads of ONNX Runtime did not come along.

At the end of a process ONNX Runtime destroys what its threads wait on, and the C library waits for
them there: in the child of a fork, for ever, since only the parent has these threads. So such a
child leaves before that, with the status it wanted to leave with.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache, partial


@cache
def end_children_early() -> None:
    """From now on, children of this process skip the exit handlers that C libraries have here.

    All that Python does at the end still happens: `atexit`, finalizers, flushing. Only glibc has
    `on_exit`; on other systems a child that does not end by `os._exit` may wait for ever.
    """
    if not hasattr(os, "register_at_fork"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        # What is registered last runs first; `_exit` ignores the second argument of such a handler.
        os.register_at_fork(after_in_child=partial(libc.on_exit, libc._exit, None))
