"""The host's server, where one is running."""

from __future__ import annotations

import sys
from typing import Any


def running_server() -> Any:
    """Return the host's server, or None; a host without one has not imported its module, and need not be able to."""
    kind = getattr(sys.modules.get("server"), "PromptServer", None)
    return getattr(kind, "instance", None)
