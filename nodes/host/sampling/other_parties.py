"""Name the code of other nodes that takes part in a forward pass, for messages about what cannot be combined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

OWN_PACKAGE = __name__.split(".nodes.")[0]


def name_parties(transformer_options: dict[str, Any], model_options: dict[str, Any]) -> str:
    """Return whose patches, wrappers and replacements act on the model, as module and name; "an unknown node" if nobody's.

    Args:
        transformer_options: of the forward pass, before ours were added.
        model_options: of the model call.
    """
    found = [_name(party) for party in _parties(transformer_options, model_options)]
    return ", ".join(dict.fromkeys(name for name in found if name)) or "an unknown node"


def _parties(transformer_options: dict[str, Any], model_options: dict[str, Any]) -> Iterator[Any]:
    yield model_options.get("model_function_wrapper")
    yield transformer_options.get("optimized_attention_override")
    for patches in transformer_options.get("patches", {}).values():
        yield from patches
    for replacements in transformer_options.get("patches_replace", {}).values():
        yield from replacements.values()
    for kinds in transformer_options.get("wrappers", {}).values():
        for wrappers in kinds.values():
            yield from wrappers


def _name(party: Any) -> str | None:
    if party is None:
        return None
    named = party if hasattr(party, "__qualname__") else type(party)
    module = named.__module__ or ""
    if module.startswith(OWN_PACKAGE):
        return None
    within = re.split(r"[/\\]", module)[-1]  # the host names a pack's modules after the path of its folder
    return f"{named.__qualname__} ({within})"
