"""Hook the cross-attention layers: record the auxiliary branch's outputs, blend them into the concept's.

The patches are plain closures. They are put in at the last moment, when the host applies the model: by then
everything other nodes do to this forward pass (patches, hooks, model wrappers) is known, so each wraps whatever
replacement stands on its layer and both act, in whichever order they were wired.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....dci_core.sampling.dbim import (
    add_outputs,
    auxiliary_weight,
    blend_outputs,
    layer_gain,
    layer_strength,
    limit_weight,
    saliency,
)
from ....dci_core.sampling.dial import parts_of
from ....dci_core.sampling.masks import MaskCollector
from ....dci_core.sampling.region import region_of_map
from ....dci_core.sampling.settings import Blend, DCISettings, Layers
from ....dci_core.sampling.strength import map_scale
from ....dci_core.sampling.text_columns import prompt_scores
from .layer_call import PARTIES, TEXT_LENGTH, Attention, BranchRows, LayerCall, Window, stock_attention
from .layers import Layer
from .other_parties import name_parties
from .pairing import PairedRows

PATCH_KEY = "dci"
LEFT_OUT = ((WrappersMP.APPLY_MODEL, "torch.compile"), (WrappersMP.DIFFUSION_MODEL, "easycache"))
"""Other nodes' wrappers that do not act on forwards of the active part. A compiled network is not told when patches change
(the host's node filters those guards out); a cached forward has no layers, and EasyCache follows the first conditioning it sees."""
Action = Callable[[Attention, LayerCall], Tensor]


@dataclass(frozen=True)
class LayerRecord:
    """The auxiliary branch at one layer: attention output [B, N, H·d] and saliency s_a [B, H, N]."""

    output: Tensor
    saliency: Tensor | None


RecordKey = tuple[Layer, int, Window]
Records = Mapping[RecordKey, LayerRecord]
"""The auxiliary branch at one noise level, by layer, pair of conditionings and context window."""


class DualBranchAttention:
    """The two kinds of patches around one run's cross-attention layers, and what they saw.

    Args:
        layers: of the model, in forward order, with the halvings of each.
        native_latent: edge of the family's native latent.
        settings: of the run.
        rows: which conditionings are recorded and blended.
        region: where the auxiliary branch may speak, [B, h, w] like the latent; None is everywhere.
        masks: where W_a is collected.
    """

    def __init__(
        self,
        layers: Mapping[Layer, int],
        native_latent: int,
        settings: DCISettings,
        rows: PairedRows,
        region: Tensor | None,
        masks: MaskCollector,
    ) -> None:
        self.layers = list(layers)[-1:] if settings.layers is Layers.LAST else list(layers)
        parts = parts_of(Counter(layers.values()))
        self.parts = {layer: parts[halvings] for layer, halvings in layers.items()}
        self.native_area = native_latent**2
        self.settings = settings
        self.rows = rows
        self.region = region
        self.masks = masks
        self.saw_context_windows = False
        self.saw_areas = False
        self._weight_means: list[Tensor] = []

    def mean_weight(self) -> float:
        """Return the mean W_a of the run so far, over layers, heads, image tokens and calls; nan without any."""
        means = [mean.cpu() for mean in self._weight_means]  # several GPUs may have shared the conditionings
        return torch.stack(means).mean().item() if means else float("nan")

    def recording_options(
        self, model_options: dict[str, Any], records: MutableMapping[RecordKey, LayerRecord]
    ) -> dict[str, Any]:
        """Return model options whose forward records the auxiliary rows in ``records``."""
        return self._patched(model_options, lambda inner, call: self.record(inner, call, records))

    def injecting_options(self, model_options: dict[str, Any], records: Records, progress: float) -> dict[str, Any]:
        """Return model options whose forward blends records into the concept rows.

        Args:
            model_options: of the model call.
            records: of the auxiliary branch at the call's noise level.
            progress: share of the active part that is over, 0 … 1.
        """
        return self._patched(model_options, lambda inner, call: self.inject(inner, call, records, progress))

    def record(self, inner: Attention, call: LayerCall, records: MutableMapping[RecordKey, LayerRecord]) -> Tensor:
        """Return the output of one layer, after keeping what the auxiliary rows have in it.

        Args:
            inner: the attention that would be there without DCI.
            call: what the layer is given.
            records: where it is kept.
        """
        out = call.through(inner)
        for chunk, rows in call.rows_of(self.rows.auxiliary):
            alone = out.shape[0] == chunk.stop - chunk.start
            kept = out if alone else out[chunk].clone()
            records[call.layer, rows.pair, call.window] = LayerRecord(kept, self._saliency(call.at(chunk), rows))
        return out

    def inject(self, inner: Attention, call: LayerCall, records: Records, progress: float) -> Tensor:
        """Return the output of one layer with the records blended into its concept rows.

        Args:
            inner: the attention that would be there without DCI.
            call: what the layer is given.
            records: of the auxiliary branch.
            progress: share of the active part that is over, 0 … 1.

        Raises:
            UserInputError: another node changes the rows in a way that leaves no fitting record.
        """
        out = call.through(inner)
        parts, done = [], 0
        for chunk, rows in call.rows_of(self.rows.concept):
            record = records.get((call.layer, rows.pair, call.window))
            if record is None or record.output.shape != out[chunk].shape:
                raise call.refusal(
                    f"at layer {call.layer} the auxiliary branch has no output that fits the concept branch"
                )
            parts += [out[done : chunk.start], self._combine(out[chunk], record, call.at(chunk), rows, progress)]
            done = chunk.stop
        return torch.cat([*parts, out[done:]]) if parts else out

    def _patched(self, model_options: dict[str, Any], act: Action) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(model_options)
        wrappers = options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        for kind, name in LEFT_OUT:
            wrappers.get(kind, {}).pop(name, None)

        def apply_model(
            executor: Callable[..., Tensor],
            x: Tensor,
            t: Tensor,
            c_concat: Any = None,
            c_crossattn: Any = None,
            control: Any = None,
            transformer_options: dict[str, Any] | None = None,
            **conds: Any,
        ) -> Tensor:
            patched = self._with_patches(transformer_options or {}, act)
            patched[PARTIES] = lambda: name_parties(transformer_options or {}, model_options)
            patched[TEXT_LENGTH] = 0 if c_crossattn is None else c_crossattn.shape[1]
            return executor(x, t, c_concat, c_crossattn, control, patched, **conds)

        add_wrapper_with_key(WrappersMP.APPLY_MODEL, PATCH_KEY, apply_model, options, is_model_options=True)
        return options

    def _with_patches(self, transformer_options: dict[str, Any], act: Action) -> dict[str, Any]:
        replacements = transformer_options.get("patches_replace", {})
        present = replacements.get("attn2", {})
        ours = {layer: _bound(act, layer, present.get(layer, present.get(layer[:2]))) for layer in self.layers}
        return {**transformer_options, "patches_replace": {**replacements, "attn2": {**present, **ours}}}

    def _combine(self, out: Tensor, record: LayerRecord, call: LayerCall, rows: BranchRows, progress: float) -> Tensor:
        auxiliary = record.output.to(out)
        size = call.map_size
        region = None if self.region is None else region_of_map(call.in_window(self.region), size, rows.area)
        if self.settings.blend is not Blend.MASKS:
            return add_outputs(out, auxiliary, self.settings.blend is Blend.MEAN, region)
        weight = limit_weight(self._weight(record, call, rows, progress), region)
        self._weight_means.append(weight.mean())
        self.saw_context_windows |= call.window is not None
        self.saw_areas |= rows.area is not None
        whole = rows.area is None and call.window is None
        if whole and math.prod(size) == weight.shape[-1]:
            self.masks.add(weight, size)
        return blend_outputs(out, auxiliary, weight)

    def _weight(self, record: LayerRecord, call: LayerCall, rows: BranchRows, progress: float) -> Tensor:
        forced = self.settings.forced_auxiliary_weight
        if forced is not None:
            return torch.full((call.q.shape[0], call.heads, call.q.shape[1]), forced, device=call.q.device)
        concept = self._saliency(call, rows)
        assert concept is not None and record.saliency is not None
        return auxiliary_weight(concept, record.saliency.to(concept), self._strength(call, progress))

    def _strength(self, call: LayerCall, progress: float) -> float:
        scale = map_scale(call.map_size, call.latent_size)
        strength = self.settings.strength_schedule.strength(self.settings.injection_strength, scale, progress)
        return layer_strength(self.settings.mask_preset, self.parts[call.layer], strength)

    def _saliency(self, call: LayerCall, rows: BranchRows) -> Tensor | None:
        if self.settings.blend is not Blend.MASKS or self.settings.forced_auxiliary_weight is not None:
            return None
        text_length, keys = call.extra[TEXT_LENGTH], call.k.shape[1]
        if keys < text_length or text_length < rows.length:
            words = f"{keys} of its {max(text_length, rows.length)} tokens"
            raise call.refusal(f"the text was shortened to {words}, so the prompt's words cannot be found")
        scores = prompt_scores(call.q, call.k, call.heads, rows.length, text_length)
        preset = self.settings.mask_preset
        area = math.prod(call.latent_size) / self.native_area
        gain = layer_gain(preset, self.parts[call.layer], call.q.shape[1], area)
        return saliency(scores, rows.tokens, preset, gain)


def _bound(act: Action, layer: Layer, present: Attention | None) -> Attention:
    inner = stock_attention if present is None else present

    def patch(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return act(inner, LayerCall(layer, q, k, v, extra))

    return patch
