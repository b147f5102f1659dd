"""Ratios of time and memory, measured side by side in one run; each file with a ``main`` is started with ``python -m``."""

from __future__ import annotations

import sys

from workbench.pack import load_pack

load_pack(cpu="--cpu" in sys.argv)  # the host must know before its modules are imported
