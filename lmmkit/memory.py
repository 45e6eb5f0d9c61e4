"""What this machine's memory holds."""

import os

_GIB = 2**30


def memory_shortage(numbers: int) -> tuple[float, float] | None:
    """GiB that so many float64 need and that the machine has, where that is less; else None."""
    needed = 8 * numbers
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (needed / _GIB, present / _GIB) if needed > present else None
