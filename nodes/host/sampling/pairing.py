"""Tie each positive condition that carries an auxiliary text to its auxiliary twin."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import comfy.controlnet

from ....dci_core.prompt.tokens import TokenSet
from ....dci_core.sampling.region import Area
from .conditioning import CARRIED_KEY, AuxiliaryText
from .layer_call import BranchRows

AUXILIARY = "dci_auxiliary"
"""Name of the auxiliary twins among a guider's conditions."""
Rows = dict[Any, BranchRows]


@dataclass(frozen=True)
class PairedRows:
    """The rows of both branches, by the host's id of their condition.

    Args:
        concept: those to blend.
        auxiliary: those to record.
    """

    concept: Rows
    auxiliary: Rows

    def token_sets(self) -> tuple[tuple[TokenSet, TokenSet], ...]:
        """Return T(P) and T(P_a) of each blended condition."""
        twins = {rows.pair: rows.tokens for rows in self.auxiliary.values()}
        return tuple((rows.tokens, twins[rows.pair]) for rows in self.concept.values())


class OwnControls:
    """The auxiliary branch's copies of T2I-Adapters and of what is stacked with them.

    An adapter keeps its features for the number of rows it first saw, which differs between the branches. ControlNets
    keep nothing of the kind and are shared: a copy of a Control-LoRA would cost a network of its own.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, Any]] = {}

    def given_to(self, conds: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the conditions with each control replaced by its copy, if it has one."""
        return [{**c, "control": self._known(c["control"])} if "control" in c else c for c in conds]

    def copy(self, control: Any) -> Any:
        """Return the control's copy, always the same for the same control, or itself; models are shared, not copied."""
        if not _has_adapter(control) or getattr(control, "multigpu_clones", None):
            return control
        if id(control) not in self._copies:
            own = control.copy()
            own.set_previous_controlnet(self.copy(control.previous_controlnet))
            self._copies[id(control)] = (control, own)
        return self._copies[id(control)][1]

    def _known(self, control: Any) -> Any:
        return self._copies.get(id(control), (control, control))[1]


def _has_adapter(control: Any) -> bool:
    return control is not None and (
        isinstance(control, comfy.controlnet.T2IAdapter) or _has_adapter(control.previous_controlnet)
    )


def auxiliary_twin(cond: dict[str, Any], controls: OwnControls) -> dict[str, Any]:
    """Return a condition for the auxiliary branch: the same, with the carried text if there is one."""
    carried: AuxiliaryText | None = cond.get(CARRIED_KEY)
    twin = carried.swapped_into(cond) if carried is not None else {**cond, "uuid": uuid.uuid4()}
    return {**twin, "control": controls.copy(cond["control"])} if "control" in cond else twin


def pair_rows(positive: list[dict[str, Any]], auxiliary: list[dict[str, Any]], count: int) -> PairedRows:
    """Pair the conditions of both branches after the host has prepared them, and give them ids nobody else has.

    The host makes copies of conditions with areas for the other lists, with the same id but other text:
    only the encoded text itself tells whose a condition really is. Where LoRA is weakened, they get the hooks of their text.

    Args:
        positive: the guider's positive conditions; those that carry a text get a new id.
        auxiliary: their twins; likewise.
        count: how many of each there were before the host added copies.
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
        if carried.lora_strength != 1 and "hooks" in auxiliary[index]:
            twin["hooks"] = auxiliary[index]["hooks"]
        cond["uuid"], twin["uuid"] = uuid.uuid4(), uuid.uuid4()
        pair = len(concept_rows)
        concept_rows[cond["uuid"]] = _rows(pair, carried.concept_tokens, cond)
        auxiliary_rows[twin["uuid"]] = _rows(pair, carried.auxiliary_tokens, twin)
    return PairedRows(concept_rows, auxiliary_rows)


def _text(cond: dict[str, Any]) -> Any:
    return cond["model_conds"].get("c_crossattn")


def _area(cond: dict[str, Any]) -> Area | None:
    return tuple(cond["area"]) if "area" in cond else None


def _rows(pair: int, tokens: TokenSet, cond: dict[str, Any]) -> BranchRows:
    return BranchRows(pair, tokens, _text(cond).cond.shape[1], _area(cond))
