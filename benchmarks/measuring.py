"""Run stock and two-branch sampling in turn and take the time, the share of our own work, and the bytes held."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from forwards import gpu_peak, now, on_gpu, one_call, seconds_by_rows, work, work_of_run

ROOT = Path(__file__).resolve().parents[1]
PACK = "comfyui_dci"
PROMPT, NEGATIVE, NOUN = "a V* toy in times square, at night", "blurry, low quality", "dog"
KINDS = {"stock": None, "shared": {"share_guidance": True}, "exact": {"share_guidance": False}}
WHOLE_RUNS = {
    "processor_time": "processor time, which other programs disturb less",
    "flops": "multiplications and additions, which nothing disturbs",
    "operations": "PyTorch operations, which a GPU that waits for the processor takes",
}
HELD = {"record": "record_mb", "all held": "held_mb", "after T_a": "held_after_mb"}
ACTIVE_FRACTION, CFG, SEED = 0.15, 7.0, 1


def measure(checkpoint: Path, size_px: int, batch: int, steps: int, rounds: int, cpu: bool) -> dict[str, Any]:
    """Return everything measured; "targets" compares it with what the project promises."""
    _load_host_and_pack(cpu)
    import torch
    from comfyui_dci.nodes.host import sampling  # noqa: F401  (the clocks wrap what it loads)

    with torch.inference_mode():
        model, positive, negative = _scene(checkpoint)
        scene = (positive, negative, torch.zeros(batch, 4, size_px // 8, size_px // 8))
        _sample(model, None, *scene, 1)
        one_step = {kind: work(partial(_sample, model, settings, *scene, 1)) for kind, settings in KINDS.items()}
        two_steps = work(partial(_sample, model, None, *scene, 2))
        arguments = (*scene, steps)
        clocks = {kind: _Clock() for kind in KINDS}
        for number in range(1, rounds + 1):
            for kind, settings in KINDS.items():
                clocks[kind].add(*_sample(model, settings, *arguments))
                sys.stderr.write(f"round {number} of {rounds}, {kind}: {clocks[kind].runs[-1]:.2f} s\n")
        with clocks["shared"].watching():  # watching costs time, so what is watched is not among the runs
            _sample(model, KINDS["shared"], *arguments)
        peaks = {kind: gpu_peak(partial(_sample, model, settings, *arguments)) for kind, settings in KINDS.items()}
        rows = seconds_by_rows(model, scene[2], rounds)
    device = torch.cuda.get_device_name() if on_gpu() else "CPU"
    run = {"device": device, "checkpoint": checkpoint.name, "size_px": size_px, "batch": batch, "rounds": rounds}
    summary = _summary(clocks, steps, run)
    summary |= work_of_run(one_step, two_steps, steps, summary["active_steps"])
    return summary | {"gpu_peak_mb": peaks, "forward_seconds": rows, "one_call": one_call(rows)}


def describe(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [", ".join(f"{key} {value}" for key, value in result["run"].items()), "", "| what | measured | target |"]
    lines += ["|---|---|---|"]
    lines += [f"| {row['what']} | {row['value']:.3f} | ≤ {row['target']} |" for row in result["targets"]]
    held = ", ".join(f"{what} {result[key]:.1f} MB" for what, key in HELD.items())
    lines += ["", f"{result['active_steps']} of {result['run']['steps']} steps active; {held}"]
    for key, unit in WHOLE_RUNS.items():
        lines += [
            f"the whole runs in {unit}: {', '.join(f'{kind} {value:.3f}' for kind, value in result[key].items())}"
        ]
    shared, exact = result["one_call"].values()
    lines += [
        f"an active step in one call in place of two, at best: shared {shared:.3f}, exact {exact:.3f} of its time"
    ]
    if result["gpu_peak_mb"]["stock"]:
        told = ", ".join(f"{kind} {value:.1f} MB" for kind, value in result["gpu_peak_mb"].items())
        lines += [f"peak of GPU memory beyond what was there before the run: {told}"]
    return "\n".join(lines)


class _Clock:
    """What one kind of run took: whole runs, steps, our own work at the layers, masks, and the bytes held."""

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.cpu: list[float] = []
        self.steps: list[list[float]] = []
        self.active_seconds = self.own = self.masks = 0.0
        self.record_bytes = self.held_bytes = self.held_after_bytes = 0
        self.active_steps = 0

    def add(self, seconds: float, cpu_seconds: float, steps: list[float]) -> None:
        self.runs.append(seconds)
        self.cpu.append(cpu_seconds)
        self.steps.append(steps)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap the pack's own functions for one run."""
        attention = sys.modules[f"{PACK}.nodes.host.sampling.attention"].DualBranchAttention
        masks = sys.modules[f"{PACK}.dci_core.sampling.masks"].BlendMasks
        run = sys.modules[f"{PACK}.nodes.host.sampling.run"].Run
        originals = [
            (attention, "_record"),
            (attention, "_inject"),
            (masks, "add"),
            (masks, "finish_call"),
            (run, "predict"),
        ]
        kept = [(owner, name, getattr(owner, name)) for owner, name in originals]
        attention._record = self._without_inner(attention._record)
        attention._inject = self._without_inner(attention._inject)
        masks.add, masks.finish_call = self._of_masks(masks.add), self._of_masks(masks.finish_call)
        run.predict = self._holding(run.predict)
        try:
            yield
        finally:
            for owner, name, function in kept:
                setattr(owner, name, function)

    def _without_inner(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(attention: Any, layer: Any, inner: Any, *args: Any) -> Any:
            inside = 0.0

            def timed_inner(*inner_args: Any) -> Any:
                nonlocal inside
                start = now()
                out = inner(*inner_args)
                inside += now() - start
                return out

            masks, start = self.masks, now()
            out = method(attention, layer, timed_inner, *args)
            self.own += now() - start - inside - (self.masks - masks)
            return out

        return timed

    def _of_masks(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            out = method(*args, **kwargs)
            self.masks += now() - start
            return out

        return timed

    def _holding(self, predict: Callable[..., Any]) -> Callable[..., Any]:
        def counted(run: Any, *args: Any, **kwargs: Any) -> Any:
            active, start = run.active_calls, now()
            out = predict(run, *args, **kwargs)
            seconds = now() - start
            held = bytes_held({name: value for name, value in vars(run).items() if name != "guider"})
            if run.active_calls > active:
                self.active_steps = run.active_calls
                self.active_seconds += seconds
                self.held_bytes = max(self.held_bytes, held)
                outputs = [record.output for record in run.attention.records.values()]
                self.record_bytes = max(self.record_bytes, bytes_held(outputs))
            else:
                self.held_after_bytes = max(self.held_after_bytes, held)
            return out

        return counted


def bytes_held(value: Any, seen: set[int] | None = None) -> int:
    """Return the bytes of all tensor storages reachable through containers, dataclasses and plain objects of the pack."""
    import torch

    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
    else:
        key, size = id(value), 0
    if key in seen:
        return 0
    seen.add(key)
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, (list, tuple)):
        children = list(value)
    elif is_dataclass(value) and not isinstance(value, type):
        children = [getattr(value, field.name) for field in fields(value)]
    elif type(value).__module__.startswith(PACK) and hasattr(value, "__dict__"):
        children = [child for name, child in vars(value).items() if name != "guider"]
    else:
        children = []
    return size + sum(bytes_held(child, seen) for child in children)


def _sample(
    model: Any, settings: Any, positive: Any, negative: Any, latent: Any, steps: int
) -> tuple[float, float, list[float]]:
    """Return the seconds of a run, its processor seconds, and the seconds of each of its steps but the first."""
    import comfy.sample
    from comfyui_dci.dci_core.sampling.settings import DCISettings
    from comfyui_dci.nodes.host.sampling.patch import apply_dci

    if settings is not None:
        model = apply_dci(model, DCISettings(active_fraction=ACTIVE_FRACTION, **settings))[0]
    times: list[float] = []
    noise = comfy.sample.prepare_noise(latent, SEED)
    start, cpu = now(), time.process_time()
    comfy.sample.sample(
        model,
        noise,
        steps,
        CFG,
        "euler",
        "normal",
        positive,
        negative,
        latent,
        callback=lambda *_: times.append(now()),
        disable_pbar=True,
        seed=SEED,
    )
    return now() - start, time.process_time() - cpu, [later - earlier for earlier, later in zip(times, times[1:])]


def _summary(clocks: dict[str, _Clock], steps: int, run: dict[str, Any]) -> dict[str, Any]:
    stock, shared, exact = (clocks[kind] for kind in KINDS)

    def ratio(own: list[float], plain: list[float]) -> float:
        return statistics.median(one / other for one, other in zip(own, plain))

    def late(clock: _Clock) -> float:
        after = [row[shared.active_steps :] for row in clock.steps]  # the active ones, and one more to be sure
        return statistics.median(value for row in after for value in row)

    rows = [
        ("whole run, shared guidance", ratio(shared.runs, stock.runs), 1.10),
        ("whole run, exact guidance", ratio(exact.runs, stock.runs), 1.18),
        ("a step after T_a", late(shared) / late(stock), 1.01),
        ("our own work at the layers, share of the active steps", shared.own / shared.active_seconds, 0.03),
        ("recording masks, share of the active steps", shared.masks / shared.active_seconds, 0.02),
        ("bytes held, in records of the attention outputs", shared.held_bytes / max(shared.record_bytes, 1), 1.10),
    ]
    return {
        "run": {**run, "steps": steps},
        "active_steps": shared.active_steps,
        "seconds": {kind: clock.runs for kind, clock in clocks.items()},
        "processor_time": {"shared": ratio(shared.cpu, stock.cpu), "exact": ratio(exact.cpu, stock.cpu)},
        "record_mb": shared.record_bytes / 1e6,
        "held_mb": shared.held_bytes / 1e6,
        "held_after_mb": shared.held_after_bytes / 1e6,
        "targets": [{"what": what, "value": value, "target": target} for what, value, target in rows],
    }


def _load_host_and_pack(cpu: bool) -> None:
    import comfy.cli_args
    import torch

    comfy.cli_args.args.cpu = cpu or not torch.cuda.is_available()
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


def _scene(checkpoint: Path) -> tuple[Any, Any, Any]:
    """Return the model with a concept of zero change applied, the positive with its auxiliary text, and the negative."""
    import comfy.sd
    import torch
    from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
    from comfyui_dci.nodes.host.concepts.applying import apply_concept
    from comfyui_dci.nodes.host.families import family_of
    from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
    from comfyui_dci.nodes.host.weights import base_hash, key_value_weights

    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=True)
    family = family_of(model)
    deltas = {name: torch.zeros(weight.shape) for name, weight in key_value_weights(model).items()}
    widths = {
        name: getattr(clip.cond_stage_model, name).transformer.get_input_embeddings().weight.shape[1]
        for name in family.text_encoders
    }
    generator = torch.Generator().manual_seed(SEED)
    tokens = {name: 0.02 * torch.randn(3, width, generator=generator) for name, width in widths.items()}
    info = ConceptInfo(family.name, "toy", "V*", 1, 1, 3, 1, SEED, base_hash(model))
    model, clip = apply_concept(model, clip, Concept(deltas, tokens, info))
    positive = build_conditioning(clip, PROMPT, NOUN).conditioning
    return model, positive, clip.encode_from_tokens_scheduled(clip.tokenize(NEGATIVE))
