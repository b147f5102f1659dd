"""Tie each positive condition that carries an auxiliary text to its auxiliary twin."""

from __future__ import annotations

import uuid
from typing import Any

from ...dci_core.dbim import TokenSet
from ...dci_core.region import Area
from .attention import BranchRows
from .conditioning import CARRIED_KEY, AuxiliaryText

Rows = dict[Any, BranchRows]


def auxiliary_twin(cond: dict[str, Any]) -> dict[str, Any]:
    """Return a condition for the auxiliary branch: the same, with the carried text if there is one."""
    carried: AuxiliaryText | None = cond.get(CARRIED_KEY)
    return carried.swapped_into(cond) if carried is not None else {**cond, "uuid": uuid.uuid4()}


def pair_rows(positive: list[dict[str, Any]], auxiliary: list[dict[str, Any]], count: int) -> tuple[Rows, Rows]:
    """Pair the conditions of both branches after the host has prepared them, and give them ids nobody else has.

    The host makes copies of conditions with areas for the other lists, with the same id but other text:
    only the encoded text itself tells whose a condition really is.

    Args:
        positive: the guider's positive conditions; those that carry a text get a new id.
        auxiliary: their twins; likewise.
        count: how many of each there were before the host added copies.

    Returns:
        The rows to blend and the rows to record, by id.
    """
    concept_rows: Rows = {}
    auxiliary_rows: Rows = {}
    origin = {id(_text(cond)): index for index, cond in enumerate(auxiliary[:count])}
    twins = {(origin.get(id(_text(cond))), _area(cond)): cond for cond in reversed(auxiliary)}
    sources = {id(_text(cond)): (i, cond) for i, cond in enumerate(positive[:count]) if CARRIED_KEY in cond}
    for cond in positive:
        if id(_text(cond)) not in sources:
            continue
        index, source = sources[id(_text(cond))]
        carried: AuxiliaryText = source[CARRIED_KEY]
        twin = twins[index, _area(cond)]
        cond["uuid"], twin["uuid"] = uuid.uuid4(), uuid.uuid4()
        pair = len(concept_rows)
        concept_rows[cond["uuid"]] = _rows(pair, carried.concept_tokens, cond)
        auxiliary_rows[twin["uuid"]] = _rows(pair, carried.auxiliary_tokens, twin)
    return concept_rows, auxiliary_rows


def _text(cond: dict[str, Any]) -> Any:
    return cond["model_conds"].get("c_crossattn")


def _area(cond: dict[str, Any]) -> Area | None:
    return tuple(cond["area"]) if "area" in cond else None


def _rows(pair: int, tokens: TokenSet, cond: dict[str, Any]) -> BranchRows:
    return BranchRows(pair, tokens, _text(cond).cond.shape[1], _area(cond))
