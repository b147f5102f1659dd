"""Hook the cross-attention layers: record the auxiliary branch's outputs, blend them into the concept's.

The patches are plain closures. They are put in at the last moment, when the host applies the model: by then
everything other nodes do to this forward pass (patches, hooks, model wrappers) is known, so each wraps whatever
replacement stands on its layer and both act, in whichever order they were wired.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.tokens import TokenSet
from ....dci_core.sampling.dbim import add_outputs, auxiliary_weight, blend_outputs, layer_gain, limit_weight, saliency
from ....dci_core.sampling.dial import parts_of
from ....dci_core.sampling.masks import BlendMasks
from ....dci_core.sampling.region import Area, region_of_map
from ....dci_core.sampling.settings import Blend, DCISettings, Layers, MaskPreset
from ....dci_core.sampling.strength import map_scale
from ....dci_core.sampling.text_columns import prompt_scores
from .other_parties import name_parties

PATCH_KEY = "dci"
LEFT_OUT = ((WrappersMP.APPLY_MODEL, "torch.compile"), (WrappersMP.DIFFUSION_MODEL, "easycache"))
"""Other nodes' wrappers that do not act on forwards of the active part. A compiled network is not told when patches change
(the host's node filters those guards out); a cached forward has no layers, and EasyCache follows the first conditioning it sees."""
TEXT_LENGTH = "dci_text_length"
PARTIES = "dci_other_parties"
Layer = tuple[str, int, int]
Window = tuple[int, ...] | None
RecordKey = tuple[Layer, int, Window]
Attention = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
Action = Callable[[Layer, Attention, Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)(?:\.\d+)?\.transformer_blocks\.(\d+)")


def cross_attention_layers(diffusion_model: Any) -> dict[Layer, int]:
    """Return the hook keys (block, number, depth index) of all text cross-attention layers, in forward order.

    Returns:
        Of each layer how often the latent's edge has been halved when it is reached.

    Raises:
        UserInputError: there are none.
    """
    layers: dict[Layer, int] = {}
    halvings = 0
    for name, module in diffusion_model.named_modules():
        halvings += _halving(name, module)
        if isinstance(module, host_attention.BasicTransformerBlock) and module.attn2 is not None:
            match = _BLOCK.fullmatch(name.replace("_orig_mod.", ""))  # which torch.compile puts in
            if match is None:
                raise UserInputError(f"The layer {name} of this model is laid out in a way DCI does not know.")
            block, number, index = match.groups()
            layers[block, 0 if block == "middle" else int(number), int(index)] = halvings
    if not layers:
        raise UserInputError("This model has no text cross-attention layers. Connect an SD1.x, SD2.x or SDXL model.")
    return layers


def _halving(name: str, module: Any) -> int:
    """Return 1 for a module that halves the edge, -1 for one that doubles it; of the two in a resizing ResBlock one counts."""
    if name.endswith("x_upd"):
        return 0
    return isinstance(module, openaimodel.Downsample) - isinstance(module, openaimodel.Upsample)


@dataclass(frozen=True)
class BranchRows:
    """Rows of a forward pass that belong to one positive conditioning or to its auxiliary twin.

    Args:
        pair: index that ties both together.
        tokens: the branch's token positions.
        length: tokens of its own conditioning; the host repeats shorter ones to match longer ones.
        area: (height, width, top, left) in the latent of a cropped area, whose masks are not recorded, or None.
    """

    pair: int
    tokens: TokenSet
    length: int
    area: Area | None


@dataclass(frozen=True)
class LayerRecord:
    """The auxiliary branch at one layer: attention output [B, N, H·d] and saliency s_a [B, H, N]."""

    output: Tensor
    saliency: Tensor | None


class DualBranchAttention:
    """One run's record of the auxiliary branch and the two kinds of patches around it.

    Args:
        layers: of the model, in forward order, with the halvings of each.
        settings: of the run.
        masks: where W_a is collected.
        native_latent: edge of the family's native latent.

    ``progress`` is to be set before each injection: the share of the active part that is over, 0 … 1;
    ``region`` when a run starts: where the auxiliary branch may speak, [B, h, w] like the latent.
    """

    def __init__(
        self, layers: Mapping[Layer, int], settings: DCISettings, masks: BlendMasks, native_latent: int
    ) -> None:
        self.layers = list(layers)[-1:] if settings.layers is Layers.LAST else list(layers)
        parts = parts_of(Counter(layers.values()))
        self.parts = {layer: parts[halvings] for layer, halvings in layers.items()}
        self.settings = settings
        self.masks = masks
        self.native_area = native_latent**2
        self.concept_rows: Mapping[Any, BranchRows] = {}
        self.auxiliary_rows: Mapping[Any, BranchRows] = {}
        self.records: dict[RecordKey, LayerRecord] = {}
        self.progress = 0.0
        self.region: Tensor | None = None
        self.saw_context_windows = False
        self.saw_areas = False
        self._weight_means: list[Tensor] = []

    def forget(self) -> None:
        """Drop the record."""
        self.records.clear()

    def mean_weight(self) -> float:
        """Return the mean W_a of the run so far, over layers, heads, image tokens and calls; nan without any."""
        means = [mean.cpu() for mean in self._weight_means]  # several GPUs may have shared the conditionings
        return torch.stack(means).mean().item() if means else float("nan")

    def recording_options(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """Return model options whose forward records the auxiliary rows."""
        return self._patched(model_options, self._record)

    def injecting_options(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """Return model options whose forward blends the record into the concept rows."""
        return self._patched(model_options, self._inject)

    def _patched(self, model_options: dict[str, Any], act: Action) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(model_options)
        wrappers = options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        for kind, name in LEFT_OUT:
            wrappers.get(kind, {}).pop(name, None)

        def apply_model(
            executor: Any,
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

    def _record(self, layer: Layer, inner: Attention, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        out = inner(q, k, v, extra)
        for chunk, rows in _chunks(q, extra, self.auxiliary_rows):
            alone = out.shape[0] == chunk.stop - chunk.start
            kept = out if alone else out[chunk].clone()
            self.records[layer, rows.pair, _window(extra)] = LayerRecord(
                kept, self._saliency(layer, q[chunk], k[chunk], rows, extra)
            )
        return out

    def _inject(self, layer: Layer, inner: Attention, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        out = inner(q, k, v, extra)
        parts, done = [], 0
        for chunk, rows in _chunks(q, extra, self.concept_rows):
            record = self.records.get((layer, rows.pair, _window(extra)))
            if record is None or record.output.shape != out[chunk].shape:
                raise _refusal(
                    extra, f"at layer {layer} the auxiliary branch has no output that fits the concept branch"
                )
            parts += [
                out[done : chunk.start],
                self._combine(layer, out[chunk], record, q[chunk], k[chunk], rows, extra),
            ]
            done = chunk.stop
        return torch.cat([*parts, out[done:]]) if parts else out

    def _combine(
        self,
        layer: Layer,
        out: Tensor,
        record: LayerRecord,
        q: Tensor,
        k: Tensor,
        rows: BranchRows,
        extra: dict[str, Any],
    ) -> Tensor:
        auxiliary = record.output.to(out)
        height, width = extra["activations_shape"][-2:]
        region = None if self.region is None else region_of_map(_seen(self.region, extra), (height, width), rows.area)
        if self.settings.blend is not Blend.MASKS:
            return add_outputs(out, auxiliary, self.settings.blend is Blend.MEAN, region)
        weight = limit_weight(self._weight(layer, record, q, k, rows, extra), region)
        self._weight_means.append(weight.mean())
        self.saw_context_windows |= _window(extra) is not None
        self.saw_areas |= rows.area is not None
        whole = rows.area is None and _window(extra) is None
        if whole and height * width == weight.shape[-1]:
            self.masks.add(weight, (height, width))
        return blend_outputs(out, auxiliary, weight)

    def _weight(
        self, layer: Layer, record: LayerRecord, q: Tensor, k: Tensor, rows: BranchRows, extra: dict[str, Any]
    ) -> Tensor:
        forced = self.settings.forced_auxiliary_weight
        if forced is not None:
            return torch.full((q.shape[0], extra["n_heads"], q.shape[1]), forced, device=q.device)
        concept = self._saliency(layer, q, k, rows, extra)
        assert concept is not None and record.saliency is not None
        return auxiliary_weight(concept, record.saliency.to(concept), self._strength(layer, extra))

    def _strength(self, layer: Layer, extra: dict[str, Any]) -> float:
        scale = map_scale(extra["activations_shape"][-2:], extra["original_shape"][-2:])
        strength = self.settings.strength_schedule.strength(self.settings.injection_strength, scale, self.progress)
        return self.parts[layer].strength(strength) if self.settings.mask_preset is MaskPreset.CALIBRATED else strength

    def _saliency(self, layer: Layer, q: Tensor, k: Tensor, rows: BranchRows, extra: dict[str, Any]) -> Tensor | None:
        if self.settings.blend is not Blend.MASKS or self.settings.forced_auxiliary_weight is not None:
            return None
        text_length = extra[TEXT_LENGTH]
        if k.shape[1] < text_length or text_length < rows.length:
            words = f"{k.shape[1]} of its {max(text_length, rows.length)} tokens"
            raise _refusal(extra, f"the text was shortened to {words}, so the prompt's words cannot be found")
        scores = prompt_scores(q, k, extra["n_heads"], rows.length, text_length)
        preset = self.settings.mask_preset
        area = math.prod(extra["original_shape"][-2:]) / self.native_area
        return saliency(scores, rows.tokens, preset, layer_gain(preset, self.parts[layer], q.shape[1], area))


def _bound(act: Action, layer: Layer, present: Attention | None) -> Attention:
    inner = _host_attention if present is None else present

    def patch(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return act(layer, inner, q, k, v, extra)

    return patch


def _window(extra: dict[str, Any]) -> Window:
    """Return which frames the host's context windows have cut out for this forward, None for all."""
    window = extra.get("context_window")
    return None if window is None else tuple(window.index_list)


def _seen(region: Tensor, extra: dict[str, Any]) -> Tensor:
    """Return the part of a region [B, h, w] that lies in the forward's context window."""
    window = extra.get("context_window")
    return region if window is None else window.get_tensor(region[:, None])[:, 0]


def _host_attention(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    return host_attention.optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
    )


def _chunks(q: Tensor, extra: dict[str, Any], wanted: Mapping[Any, BranchRows]) -> Iterator[tuple[slice, BranchRows]]:
    uuids, size = extra["uuids"], extra["sigmas"].shape[0]
    if not any(key in wanted for key in uuids):
        return  # whatever another pack does to other conditionings
    if q.shape[0] != size * len(uuids):
        expected = f"{len(uuids) * size} (conditionings: {len(uuids)}, images: {size})"
        raise _refusal(extra, f"a layer got {q.shape[0]} rows instead of {expected}, so they cannot be told apart")
    for index, key in enumerate(uuids):
        if key in wanted:
            yield slice(index * size, (index + 1) * size), wanted[key]


def _refusal(extra: dict[str, Any], problem: str) -> UserInputError:
    return UserInputError(
        f"DCI cannot work beside another node here: {problem}. Acting on this model: {extra[PARTIES]()}. "
        "Take the node that does it out, or set active_fraction to 0."
    )
