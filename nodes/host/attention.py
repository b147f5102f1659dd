"""Hook the cross-attention layers: record the auxiliary branch's outputs, blend them into the concept's.

The patches are plain closures made for one model call. Each wraps whatever replacement another node has
already put on its layer, so both act, in whichever order they were wired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.model_patcher
import torch
from torch import Tensor

from ...dci_core.dbim import (
    TokenSet,
    add_outputs,
    attention_scores,
    auxiliary_weight,
    blend_outputs,
    limit_weight,
    saliency,
)
from ...dci_core.errors import UserInputError
from ...dci_core.masks import BlendMasks
from ...dci_core.region import Area, region_of_map
from ...dci_core.settings import Blend, DCISettings, Layers, MaskPreset
from ...dci_core.strength import map_scale

Layer = tuple[str, int, int]
Attention = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)(?:\.\d+)?\.transformer_blocks\.(\d+)")


def cross_attention_layers(diffusion_model: Any) -> list[Layer]:
    """Return the hook keys (block, number, depth index) of all text cross-attention layers, in forward order.

    Raises:
        UserInputError: there are none.
    """
    layers: list[Layer] = []
    for name, module in diffusion_model.named_modules():
        if isinstance(module, host_attention.BasicTransformerBlock) and module.attn2 is not None:
            match = _BLOCK.fullmatch(name)
            if match is None:
                raise UserInputError(f"The layer {name} of this model is laid out in a way DCI does not know.")
            block, number, index = match.groups()
            layers.append((block, 0 if block == "middle" else int(number), int(index)))
    if not layers:
        raise UserInputError("This model has no text cross-attention layers. Connect an SD1.x, SD2.x or SDXL model.")
    return layers


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
        layers: of the model, in forward order.
        settings: of the run.
        masks: where W_a is collected.
        native_latent: edge of the family's native latent.

    ``progress`` is to be set before each injection: the share of the active part that is over, 0 … 1;
    ``region`` when a run starts: where the auxiliary branch may speak, [B, h, w] like the latent.
    """

    def __init__(self, layers: list[Layer], settings: DCISettings, masks: BlendMasks, native_latent: int) -> None:
        self.layers = layers[-1:] if settings.layers is Layers.LAST else layers
        self.settings = settings
        self.masks = masks
        self.native_area = native_latent**2
        self.concept_rows: Mapping[Any, BranchRows] = {}
        self.auxiliary_rows: Mapping[Any, BranchRows] = {}
        self.records: dict[tuple[Layer, int], LayerRecord] = {}
        self.progress = 0.0
        self.region: Tensor | None = None

    def forget(self) -> None:
        """Drop the record."""
        self.records.clear()

    def recording_options(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """Return model options whose forward records the auxiliary rows."""
        return self._patched(model_options, self._record)

    def injecting_options(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """Return model options whose forward blends the record into the concept rows."""
        return self._patched(model_options, self._inject)

    def _patched(
        self, model_options: dict[str, Any], act: Callable[[Layer, Attention, Any, Any, Any, dict[str, Any]], Tensor]
    ) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(model_options)
        options.setdefault("transformer_options", {})
        present = options["transformer_options"].get("patches_replace", {}).get("attn2", {})
        for layer in self.layers:
            inner = present.get(layer, present.get(layer[:2], _host_attention))
            patch = _bound(act, layer, inner)
            options = comfy.model_patcher.set_model_options_patch_replace(options, patch, "attn2", *layer)
        return options

    def _record(self, layer: Layer, inner: Attention, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        out = inner(q, k, v, extra)
        for chunk, rows in _chunks(q, extra, self.auxiliary_rows):
            alone = out.shape[0] == chunk.stop - chunk.start
            kept = out if alone else out[chunk].clone()
            self.records[layer, rows.pair] = LayerRecord(kept, self._saliency(q[chunk], k[chunk], rows, extra))
        return out

    def _inject(self, layer: Layer, inner: Attention, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        out = inner(q, k, v, extra)
        blended = None
        for chunk, rows in _chunks(q, extra, self.concept_rows):
            record = self.records.get((layer, rows.pair))
            if record is None or record.output.shape != out[chunk].shape:
                raise RuntimeError(
                    f"DCI: at layer {layer} the auxiliary branch has no output that fits the concept branch. Another "
                    "node changes the size of one of them; take it out, or set active_fraction to 0."
                )
            blended = out.clone() if blended is None else blended
            blended[chunk] = self._combine(out[chunk], record, q[chunk], k[chunk], rows, extra)
        return out if blended is None else blended

    def _combine(
        self, out: Tensor, record: LayerRecord, q: Tensor, k: Tensor, rows: BranchRows, extra: dict[str, Any]
    ) -> Tensor:
        auxiliary = record.output.to(out)
        height, width = extra["activations_shape"][-2:]
        region = self._region((height, width), rows, extra)
        if self.settings.blend is not Blend.MASKS:
            return add_outputs(out, auxiliary, self.settings.blend is Blend.MEAN, region)
        weight = limit_weight(self._weight(record, q, k, rows, extra), region)
        if rows.area is None and height * width == weight.shape[-1]:
            self.masks.add(weight, (height, width))
        return blend_outputs(out, auxiliary, weight)

    def _region(self, size: tuple[int, int], rows: BranchRows, extra: dict[str, Any]) -> Tensor | None:
        if self.region is None:
            return None
        window = extra.get("context_window")  # the host also puts a frame before most windows
        region = self.region if window is None else window.get_tensor(self.region, self.region.device, dim=0)
        return region_of_map(region, size, rows.area)

    def _weight(self, record: LayerRecord, q: Tensor, k: Tensor, rows: BranchRows, extra: dict[str, Any]) -> Tensor:
        forced = self.settings.forced_auxiliary_weight
        if forced is not None:
            return torch.full((q.shape[0], extra["n_heads"], q.shape[1]), forced, device=q.device)
        concept = self._saliency(q, k, rows, extra)
        assert concept is not None and record.saliency is not None
        return auxiliary_weight(concept, record.saliency.to(concept), self._strength(extra))

    def _strength(self, extra: dict[str, Any]) -> float:
        scale = map_scale(extra["activations_shape"][-2:], extra["original_shape"][-2:])
        return self.settings.strength_schedule.strength(self.settings.injection_strength, scale, self.progress)

    def _saliency(self, q: Tensor, k: Tensor, rows: BranchRows, extra: dict[str, Any]) -> Tensor | None:
        if self.settings.blend is not Blend.MASKS or self.settings.forced_auxiliary_weight is not None:
            return None
        if k.shape[1] < rows.length:
            raise RuntimeError(
                f"DCI: another node shortened the text to {k.shape[1]} of its {rows.length} tokens before the attention "
                "layers, so the prompt's words cannot be found. Take that node out, or set active_fraction to 0."
            )
        repeated = k.shape[1] % rows.length == 0
        scores = attention_scores(q, k[:, : rows.length] if repeated else k, extra["n_heads"])
        area = 1.0
        if self.settings.mask_preset is MaskPreset.RESOLUTION_NORMALIZED:
            height, width = extra["original_shape"][-2:]
            area = height * width / self.native_area
        return saliency(scores, rows.tokens, self.settings.mask_preset, area)


def _bound(act: Callable[..., Tensor], layer: Layer, inner: Attention) -> Attention:
    def patch(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return act(layer, inner, q, k, v, extra)

    return patch


def _host_attention(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    return host_attention.optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
    )


def _chunks(q: Tensor, extra: dict[str, Any], wanted: Mapping[Any, BranchRows]) -> Iterator[tuple[slice, BranchRows]]:
    uuids = extra["uuids"]
    if q.shape[0] % len(uuids) != 0:
        raise RuntimeError(
            f"DCI: another node enlarged the batch to {q.shape[0]} rows for {len(uuids)} conditionings, so they cannot be "
            "told apart. Take that node (an attention couple, for example) out, or set active_fraction to 0."
        )
    size = q.shape[0] // len(uuids)
    for index, key in enumerate(uuids):
        if key in wanted:
            yield slice(index * size, (index + 1) * size), wanted[key]
