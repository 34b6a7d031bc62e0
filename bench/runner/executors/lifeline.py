"""A process that ends with its parent, however that one ends: kill -9 runs no handler."""

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """On Linux, be killed when the thread that started this process ends; elsewhere do nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    run = multiprocessing.parent_process()  # None in the fork server
    if run is not None and not run.is_alive():  # too late for the signal
        os._exit(1)
