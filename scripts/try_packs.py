"""Show how DCI behaves beside other packs: the real packs, in the real ComfyUI, on the demo model.

python scripts/try_packs.py --packs FOLDER    FOLDER holds your clones of the packs; COMFYUI_PATH chooses the ComfyUI

A subject is learned in a few steps. Then each use of a pack is sampled alone, with DCI switched off, with DCI before and
after it, and without either again. Latents are compared. Prints a Markdown table; the exit status is 1 when a combination
crashes with anything but a refusal of ours, or when one of both is switched off without a word.
IPAdapter gets an adapter and a CLIP vision model of the right layout with random weights: no trained ones fit the demo model.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_install import ROOT, get_comfyui, version_of
from inside import is_inside, start_inside
from pack_cases import CASES, Case
from pack_graphs import CONCEPT, Step, dci, sampling_graph, training_graph

ACTIVE_FRACTION = 0.3
ROUNDING = 1e-3  # of the largest value: what differs by more was changed on purpose
WORKS, EQUAL, DIFFERS, BOTH = "works", "equal", "DIFFERS", "both act"
DCI_OFF, DCI_SILENT, PACK_SILENT, CRASH = "DCI off, and says so", "DCI SILENTLY OFF", "PACK SILENTLY OFF", "CRASH"
BAD = (DIFFERS, DCI_SILENT, PACK_SILENT, CRASH)
COLUMNS = ("pack", "use", "alone", "DCI switched off", "pack, then DCI", "DCI, then pack", "without either again")


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Args:
        latent: [B, 4, h, w] as an array, or None when it failed.
        error: the host's message, "" when it did not fail.
        refused: the error is a refusal of ours.
        inactive: our node said that the run was plain sampling.
        picture: the pack drew a picture of more than one colour.
    """

    latent: Any = None
    error: str = ""
    refused: bool = False
    inactive: bool = False
    picture: bool = False


def main() -> int:
    """Parse arguments, run every case whose pack is there, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True, help="folder with clones of the packs")
    given = parser.parse_args()
    packs = [folder.resolve() for folder in sorted(given.packs.iterdir()) if (folder / "__init__.py").is_file()]
    if not packs:
        parser.error(f"There are no node packs in {given.packs}.")
    comfyui = get_comfyui()
    if not is_inside():
        return start_inside(comfyui)
    with tempfile.TemporaryDirectory() as folder:
        rows = try_packs(comfyui, Path(folder), packs)
    if not rows:
        parser.error(
            f"Known packs are {', '.join(dict.fromkeys(case.pack for case in CASES))}; {given.packs} has none."
        )
    print(f"ComfyUI {version_of(comfyui)}; {', '.join(map(commit_of, packs))}\n\n{table(rows)}", flush=True)
    return int(any(cell.startswith(BAD) for row in rows for cell in row))


def try_packs(comfyui: Path, base: Path, packs: list[Path]) -> list[tuple[str, ...]]:
    """Return a row of the table for each use of a pack that is there."""
    from pack_models import make_models

    from workbench.comfy_server import PACK, ComfyServer

    (base / "custom_nodes").mkdir()
    for pack in packs:
        (base / "custom_nodes" / pack.name).symlink_to(pack, target_is_directory=True)
    if any(pack.name == "ComfyUI_IPAdapter_plus" for pack in packs):
        make_models(base / "models")
    names = [PACK, *(pack.name for pack in packs)]
    with ComfyServer(comfyui, Path(sys.executable), base, ["--whitelist-custom-nodes", *names]) as server:
        offered = server.get("/object_info")
        present = [case for case in CASES if case.node in offered]
        log = server.log.read_text(errors="replace")
        absent = [not_loaded(case, log) for case in CASES if case not in present and case.pack in names]
        trial = Trial(server)
        return [*(trial.row(case) for case in present), *absent]


def not_loaded(case: Case, log: str) -> tuple[str, ...]:
    """Return the row of a pack that does not load on this host, with the host's reason."""
    found = re.search(rf"Cannot import \S*{re.escape(case.pack)} module for custom nodes: (.+)", log)
    reason = found.group(1) if found else f"offers no {case.node}"
    return (case.pack, case.use, f"does not load: {one_line(reason)}", *["–"] * 4)


class Trial:
    """Runs cases on a server in which the subject has been learned."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.runs = 0
        demo = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text())
        server.run(training_graph(demo))
        offer_as_stock_files(server.base / "models")
        self.plain = self.run()
        self.ours = self.run(dci(ACTIVE_FRACTION))
        if self.ours.error or not differs(self.ours, self.plain):
            raise SystemExit(f"DCI alone does not work here: {self.ours.error or 'it changes nothing'}")

    def row(self, case: Case) -> tuple[str, ...]:
        """Return the table's row of a use of a pack."""
        print(f"  {case.pack}: {case.use}", file=sys.stderr, flush=True)
        alone = self.run(case.step)
        verdict = judge_alone(case, alone, self.plain)
        cells = self._beside(case, alone) if verdict == WORKS else ["–"] * 3
        return (case.pack, case.use, verdict, *cells, judge_equal(self.run(), self.plain))

    def _beside(self, case: Case, alone: Outcome) -> list[str]:
        on, off = dci(ACTIVE_FRACTION), dci(0.0)
        neutral = [judge_equal(self.run(*steps), alone) for steps in ((case.step, off), (off, case.step))]
        both = [self.run(*steps) for steps in ((case.step, on), (on, case.step))]
        unequal = next((verdict for verdict in neutral if verdict != EQUAL), EQUAL)
        return [unequal, *(judge_together(case, run, alone, self.ours) for run in both)]

    def run(self, *steps: Step) -> Outcome:
        """Sample the subject after the steps."""
        from workbench.comfy_client import RunFailed

        self.runs += 1
        told: list[str] = []
        try:
            graph = sampling_graph(self.runs, *steps)
            entry = self.server.run_to_any_end(graph, lambda _, data: told.append(data.get("text", "")))
        except RunFailed as refusal:
            return Outcome(error=one_line(str(refusal)))
        return self._outcome(entry, any(line.startswith("inactive") for line in told))

    def _outcome(self, entry: dict[str, Any], inactive: bool) -> Outcome:
        from safetensors.numpy import load_file

        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                refused = data["exception_type"].endswith("UserInputError")
                return Outcome(error=one_line(data["exception_message"]), refused=refused)
        saved = {kind: files[0] for output in entry["outputs"].values() for kind, files in output.items()}
        latent = load_file(self._path(saved["latents"]))["latent_tensor"]
        drawn = "images" in saved and is_drawn(self._path(saved["images"]))
        return Outcome(latent, inactive=inactive, picture=drawn)

    def _path(self, saved: dict[str, str]) -> Path:
        return Path(self.server.base) / "output" / saved["subfolder"] / saved["filename"]


def offer_as_stock_files(models: Path) -> None:
    """Put the learned subject among the LoRAs, and its vectors among the embeddings, where nothing says what they are."""
    from safetensors.numpy import load_file, save_file

    learned = models / "dci_concepts" / f"{CONCEPT}.safetensors"
    for folder in ("loras", "embeddings"):
        (models / folder).mkdir(exist_ok=True)
    (models / "loras" / learned.name).symlink_to(learned)
    vectors = {name: tensor for name, tensor in load_file(learned).items() if name.startswith("clip_")}
    save_file(vectors, models / "embeddings" / learned.name)


def judge_alone(case: Case, alone: Outcome, plain: Outcome) -> str:
    """Tell whether a pack works without DCI."""
    if alone.error:
        return f"fails: {alone.error}"
    return WORKS if (alone.picture if case.picture else differs(alone, plain)) else "changes nothing"


def judge_equal(one: Outcome, other: Outcome) -> str:
    """Tell whether two runs gave the same latent, bit for bit."""
    return failure(one) or (EQUAL if (one.latent == other.latent).all() else DIFFERS)


def judge_together(case: Case, both: Outcome, alone: Outcome, ours: Outcome) -> str:
    """Tell what became of a pack and of DCI in one run.

    Args:
        both: of the pack and DCI.
        alone: of the pack.
        ours: of DCI.
    """
    if both.error:
        return failure(both)
    if not differs(both, alone):
        return DCI_OFF if both.inactive else DCI_SILENT
    return BOTH if (both.picture if case.picture else differs(both, ours)) else PACK_SILENT


def failure(run: Outcome) -> str:
    """Return how a run failed, "" when it did not."""
    if not run.error:
        return ""
    return f"refused: {run.error}" if run.refused else f"{CRASH}: {run.error}"


def differs(one: Outcome, other: Outcome) -> bool:
    """Tell whether two latents differ by more than rounding."""
    return bool(abs(one.latent - other.latent).max() > ROUNDING * abs(other.latent).max())


def is_drawn(file: Path) -> bool:
    """Tell whether a picture has more than one colour."""
    from PIL import Image

    with Image.open(file) as picture:
        return any(low != high for low, high in picture.convert("RGB").getextrema())


def one_line(message: str) -> str:
    """Return a message as a table cell."""
    return " ".join(message.split()).replace("|", "\\|")


def commit_of(pack: Path) -> str:
    """Return a pack's name with its commit and its date, if it is a clone."""
    command = ["git", "-C", str(pack), "log", "-1", "--format=%h of %cs"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{pack.name} {told}".rstrip()


def table(rows: list[tuple[str, ...]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
