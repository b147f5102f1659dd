"""Tables of what defaults were chosen by: docs/results/defaults/*.csv, from the rows that defaults.py measured.

python -m study.defaults_report [ROWS.jsonl ...]    takes rows into docs/results/defaults/rows.jsonl first
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from comfyui_dci.dci_core.families import FAMILIES
from comfyui_dci.dci_core.sampling.branches import contraction, fine_sigmas
from comfyui_dci.dci_core.sampling.dbim import layer_gain
from comfyui_dci.dci_core.sampling.dial import even_weight, parts_of
from comfyui_dci.dci_core.sampling.settings import MaskPreset

from study.tables import write_text_atomically

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results" / "defaults"
ROWS = FOLDER / "rows.jsonl"
CHOICE = {
    "demo": 11,
    "toy": 11,
    "demo_256": 11,
}  # seed of the pictures that defaults are chosen by; others report the choice
PIXELS_PER_LATENT = FAMILIES["sd1"].pixels_per_latent
LAYOUTS: Mapping[str, tuple[Mapping[int, int], int, int]] = {
    "SD1.5": ({0: 5, 1: 5, 2: 5, 3: 1}, 64, 64),
    "SD2 (768)": ({0: 5, 1: 5, 2: 5, 3: 1}, 96, 96),
    "SDXL": ({1: 10, 2: 60}, 128, 128),
    "SSD-1B": ({1: 8, 2: 26}, 128, 128),
    "first demo model": ({0: 3, 1: 3, 2: 4}, 16, 64),
    "demo model": ({0: 3, 1: 3, 2: 4}, 32, 64),
}
"""Cross-attention layers by halvings of the latent's edge, that edge at the native size, and at the size that
"resolution_normalized" takes for native: the family's, which for the small models is SD1's."""
TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training": (
        ("subject", "key_values", "tokens", "contexts", "class_images", "batch", "step"),
        (
            "change",
            "loss",
            "loss_alone",
            "likeness",
            "obedience",
            "second",
            "auxiliary_obedience",
            "auxiliary_second",
            "likeness_without_noun",
        ),
    ),
    "paths": (
        ("subject", "recipe", "step", "steps", "cfg", "sampler", "injection_strength", "active_fraction", "path"),
        ("likeness", "obedience", "second", "least", "most", "correlation"),
    ),
    "distance": (("subject", "strength", "fraction", "cfg", "path"), ("distance", "correlation", "least", "most")),
    "fractions": (
        ("subject", "recipe", "step", "path", "fraction", "strength"),
        ("likeness", "obedience", "second", "weight"),
    ),
    "span": (("subject", "recipe", "step", "path", "fraction"), ("span",)),
    "dial": (
        (
            "subject",
            "preset",
        ),
        ("weight_low", "weight_middle", "weight_high", "span", "from_plain"),
    ),
    "stochastic": (("subject", "path"), ("likeness", "obedience", "moments")),
}
"""Of each table what tells its lines apart, and what is averaged over prompts, or over both machines where both measured."""


def read_rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows of several files, each once."""
    lines = dict.fromkeys(
        line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
    )
    return [json.loads(line) for line in lines]


def table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """Means by world, set of subjects, and keys; extremes for what is called least or most."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        used = "choice" if row["seed"] == CHOICE.get(row["world"]) else "reported"
        groups.setdefault((row["world"], used, *(row.get(key) for key in keys)), []).append(row)
    found = []
    for group, members in sorted(groups.items(), key=lambda item: [_order(value) for value in item[0]]):
        line = dict(zip(("world", "set", *keys), group))
        line["rows"] = len(members)
        for value in values:
            numbers = [m[value] for m in members if isinstance(m.get(value), (int, float)) and not math.isnan(m[value])]
            line[value] = round(_together(value, numbers), 3) if numbers else ""
        found.append(line)
    return found


def meaning() -> list[dict[str, Any]]:
    """Mean W_a of even maps for λ = -2, 0, 2 by model, size and mask preset."""
    lines = []
    for model, (layers, native, normal) in LAYOUTS.items():
        parts = parts_of(layers)
        for scale in (0.5, 1.0, 2.0):
            edge = int(native * scale)
            for preset in (MaskPreset.REFERENCE, MaskPreset.RESOLUTION_NORMALIZED, MaskPreset.CALIBRATED):
                line: dict[str, Any] = {
                    "model": model,
                    "latent": edge,
                    "size_px": PIXELS_PER_LATENT * edge,
                    "preset": preset.value,
                }
                for strength in (-2.0, 0.0, 2.0):
                    total = 0.0
                    for halvings, count in layers.items():
                        tokens = (edge >> halvings) ** 2
                        gain = layer_gain(preset, parts[halvings], tokens, (edge / normal) ** 2)
                        own = parts[halvings].strength(strength) if preset is MaskPreset.CALIBRATED else strength
                        total += count * even_weight(own, gain, tokens)
                    line[f"weight_at_{strength:g}"] = round(total / sum(layers.values()), 4)
                lines.append(line)
    return lines


def contractions() -> list[dict[str, Any]]:
    """What one call to the next multiplies the difference of both latents by, in the first step of Euler and "normal"."""
    lines = []
    for steps in (10, 20, 30, 50, 200):
        sigmas = [_sigma(999.0), _sigma(999.0 - 999.0 / (steps - 1))]
        for guidance in (2.0, 5.0, 7.0, 12.0):
            levels = fine_sigmas(*sigmas)
            fine = math.prod(contraction(after / before, guidance) for before, after in zip(levels, levels[1:]))
            lines.append(
                {
                    "steps": steps,
                    "cfg": guidance,
                    "ratio": round(sigmas[1] / sigmas[0], 4),
                    "fine_steps": len(levels) - 1,
                    "single": round(contraction(sigmas[1] / sigmas[0], guidance), 3),
                    "fine": round(fine, 3),
                }
            )
    return lines


def write(name: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a table."""
    if lines:
        with (FOLDER / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def main(arguments: Sequence[str]) -> None:
    """Take in rows, then write all tables."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = read_rows([path for path in (ROWS, *map(Path, arguments)) if path.exists()])
    write_text_atomically(ROWS, "".join(json.dumps(row) + "\n" for row in rows))
    for name, (keys, values) in TABLES.items():
        write(name, table([row for row in rows if row["table"] == name], keys, values))
    write("meaning", meaning())
    write("contraction", contractions())


def _together(name: str, numbers: Sequence[float]) -> float:
    return min(numbers) if name == "least" else max(numbers) if name == "most" else sum(numbers) / len(numbers)


def _order(value: Any) -> tuple[bool, Any]:
    return (True, value) if isinstance(value, (int, float)) else (False, str(value))


def _sigma(timestep: float) -> float:
    """σ of SD's schedule (β from 0.00085 to 0.012, linear in its root), between timesteps linear in the logarithm."""
    roots = [0.00085**0.5 + number / 999 * (0.012**0.5 - 0.00085**0.5) for number in range(1000)]
    kept, logs = 1.0, []
    for root in roots:
        kept *= 1.0 - root * root
        logs.append(0.5 * math.log((1.0 - kept) / kept))
    low = min(int(timestep), 998)
    return math.exp(logs[low] + (timestep - low) * (logs[low + 1] - logs[low]))


if __name__ == "__main__":
    main(sys.argv[1:])
