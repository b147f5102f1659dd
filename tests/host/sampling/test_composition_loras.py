"""DCI on what people have: LoRAs, LyCORIS, hooks, fine-tuned checkpoints and embeddings, with the words that name the subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import comfy_extras.nodes_hooks as hook_nodes
import folder_paths
import nodes as host_nodes
import pytest
import torch
from adapters import add_adapter
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from comfyui_dci.nodes.host.tokenizer import tokenizers_of
from comfyui_dci.nodes.lambda_sweep import LambdaSweep
from lora_files import write_lora
from node_runs import run
from safetensors.torch import save_file
from scenes import dci, encode, ksample, relative_difference, scene

from workbench.tiny import Tiny, tiny

pytestmark = pytest.mark.sweep

PHRASE = "sks dog"
SCENE = "on the moon, at night"


class Prompted(NamedTuple):
    """A model and a CLIP with the subject in them, and the words that name it."""

    model: Any
    clip: Any
    phrase: str = "sks dog"

    def prompt(self) -> str:
        return f"a {self.phrase} {SCENE}"

    def positive(self, auxiliary_lora_strength: float = 1.0) -> Any:
        """Return what Aux Prompt Builder gives."""
        words = {"prompt": self.prompt(), "subject": self.phrase, "auxiliary_noun": "cat"}
        return run(AuxPromptBuilder, clip=self.clip, auxiliary_lora_strength=auxiliary_lora_strength, **words)[0]


class Given(NamedTuple):
    """What a case starts from.

    Args:
        family: of the model.
        base: MODEL, CLIP and VAE of a checkpoint that does not know the subject.
        files: a folder with the folders of LoRAs and embeddings.
    """

    family: str
    base: Tiny
    files: Path

    def lora(self, kind: str = "lora", seed: int = 0) -> str:
        """Return the name of a LoRA file for the model."""
        name = f"{kind}-{seed}.safetensors"
        write_lora(self.files / "loras" / name, self.base.model, self.base.clip, kind, seed)
        return name

    def sample(self, model: Any, positive: Any, negative: Any) -> torch.Tensor:
        """Return what KSampler makes, in fewer steps on the larger models."""
        return ksample(model, positive, negative, steps=4 if self.family == "mini" else 2)


@pytest.fixture
def given(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """A checkpoint of the family that the test names, and empty folders of LoRAs and embeddings."""
    family = getattr(request, "param", "mini")
    base = scene(family).base
    for kind in ("loras", "embeddings"):
        (tmp_path / kind).mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path / "loras")], {".safetensors"}))
    for tokenizer in tokenizers_of(base.clip).values():
        monkeypatch.setattr(tokenizer, "embedding_directory", [str(tmp_path / "embeddings")])
    return Given(family, base, tmp_path)


def loaded(given: Given, kind: str = "lora") -> Prompted:
    """Return what LoraLoader gives."""
    return Prompted(*host_nodes.LoraLoader().load_lora(given.base.model, given.base.clip, given.lora(kind), 1.0, 1.0))


def two_loras(given: Given) -> Prompted:
    model, clip, _ = loaded(given)
    return Prompted(*host_nodes.LoraLoader().load_lora(model, clip, given.lora(seed=1), 0.7, 0.5))


def scheduled_hooks(given: Given) -> Any:
    """Return the hooks of a LoRA that is whole at first and weaker from 30 % on, within the active part."""
    (hooks,) = hook_nodes.CreateHookLora().create_hook(given.lora(), 1.0, 1.0)
    keyframes = None
    for strength, start in ((1.0, 0.0), (0.4, 0.3)):
        (keyframes,) = hook_nodes.CreateHookKeyframe().create_hook_keyframe(strength, start, keyframes)
    return hook_nodes.SetHookKeyframes().set_hook_keyframes(hooks, keyframes)[0]


def hooked(clip: Any, hooks: Any, schedule: bool = True) -> Any:
    return hook_nodes.SetClipHooks().apply_hooks(clip, schedule, True, hooks)[0]


def hooks_on_the_model(given: Given) -> Prompted:
    (hooks,) = hook_nodes.CreateHookLora().create_hook(given.lora(), 1.0, 0.0)
    return Prompted(given.base.model, hooked(given.base.clip, hooks, schedule=False))


def hooks_over_a_lora(given: Given) -> Prompted:
    model, clip, _ = loaded(given, "loha")
    return Prompted(model, hooked(clip, scheduled_hooks(given)))


def fine_tuned(given: Given) -> Prompted:
    other = tiny(given.family, seed=5)
    return Prompted(other.model, other.clip)


def embedding(given: Given) -> Prompted:
    save_file(scene(given.family).concept.tokens, given.files / "embeddings" / "my-dog.safetensors")
    return Prompted(given.base.model, given.base.clip, "embedding:my-dog dog")


def beside_an_adapter(given: Given) -> Prompted:
    model, clip, phrase = loaded(given)
    return Prompted(add_adapter(model, 0.4), clip, phrase)


CASES: dict[str, Callable[[Given], Prompted]] = {
    "LoRA": loaded,
    "LoHa": lambda given: loaded(given, "loha"),
    "LoKr": lambda given: loaded(given, "lokr"),
    "two LoRAs": two_loras,
    "scheduled hooks": lambda given: Prompted(given.base.model, hooked(given.base.clip, scheduled_hooks(given))),
    "hooks on the model": hooks_on_the_model,
    "hooks over a LoRA": hooks_over_a_lora,
    "fine-tuned checkpoint": fine_tuned,
    "embedding": embedding,
    "beside an adapter": beside_an_adapter,
}
WITHOUT_A_LORA = ("fine-tuned checkpoint", "embedding")
OF_EVERY_FAMILY = ("LoRA", "scheduled hooks", "embedding")
EACH = [(name, "mini") for name in CASES]
EACH += [(name, family) for family in ("sd1", "sd2", "sdxl") for name in OF_EVERY_FAMILY]


@pytest.mark.parametrize(("name", "given"), EACH, indirect=["given"])
def test_the_positive_is_that_of_the_stock_encode(name: str, given: Given) -> None:
    subject = CASES[name](given)
    positive, stock = subject.positive(), encode(subject.clip, subject.prompt())
    auxiliary = encode(subject.clip, f"a cat {SCENE}")
    assert len(positive) == len(stock) == (2 if name in ("scheduled hooks", "hooks over a LoRA") else 1)
    for (text, options), (stock_text, stock_options), (other, other_options) in zip(positive, stock, auxiliary):
        assert torch.equal(text, stock_text) and torch.equal(options["pooled_output"], stock_options["pooled_output"])
        assert set(options) == {*stock_options, CARRIED_KEY}
        carried = options[CARRIED_KEY]
        assert torch.equal(carried.cross_attn, other)
        assert torch.equal(carried.pooled_output, other_options["pooled_output"])
        assert not torch.equal(other, text)


@pytest.mark.parametrize(("name", "given"), EACH, indirect=["given"])
def test_neutral_is_the_stock_sampler_and_the_blend_acts(name: str, given: Given) -> None:
    subject = CASES[name](given)
    positive, negative = subject.positive(), encode(subject.clip, "blurry")
    stock = given.sample(subject.model, encode(subject.clip, subject.prompt()), negative)
    for neutral in ({"forced_auxiliary_weight": 0.0}, {"active_fraction": 0.0}):
        assert torch.equal(given.sample(dci(subject.model, **neutral), positive, negative), stock)
    ours = given.sample(dci(subject.model), positive, negative)
    assert relative_difference(ours, stock) > 1e-4
    assert torch.equal(given.sample(dci(subject.model), positive, negative), ours)
    assert torch.equal(given.sample(subject.model, positive, negative), stock)  # and the model is what it was


@pytest.mark.parametrize("name", CASES)
def test_so_it_is_with_weaker_loras_in_the_auxiliary_branch(name: str, given: Given) -> None:
    subject = CASES[name](given)
    positive, negative = subject.positive(0.4), encode(subject.clip, "blurry")
    stock = ksample(subject.model, encode(subject.clip, subject.prompt()), negative)
    forced = dci(subject.model, forced_auxiliary_weight=0.0)
    assert torch.equal(ksample(forced, positive, negative), stock)
    weaker = ksample(dci(subject.model), positive, negative)
    assert torch.equal(ksample(dci(subject.model), positive, negative), weaker)
    same = ksample(dci(subject.model), subject.positive(), negative)
    assert torch.equal(same, weaker) == (name in WITHOUT_A_LORA)
    assert relative_difference(same, stock) > 1e-4


def sampling(subject: Prompted, **changes: Any) -> dict[str, Any]:
    """Return the inputs of DCI Sampler for a subject."""
    common = {"positive": subject.positive(), "negative": encode(subject.clip, "blurry"), "seed": 3, "steps": 4}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    common |= {"cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "latent_image": latent}
    return {"model": subject.model, **common, "active_fraction": 0.5, "injection_strength": 1.0, **changes}


@pytest.mark.parametrize("name", ["LoRA", "scheduled hooks"])
def test_every_node_of_ours_gives_the_same_picture(name: str, given: Given) -> None:
    subject = CASES[name](given)
    values = sampling(subject)
    sampled = run(DCISampler, **values)[0]["samples"]
    patched = run(ApplyDCI, model=subject.model, active_fraction=0.5, injection_strength=1.0)[0]
    assert torch.equal(ksample(patched, values["positive"], values["negative"]), sampled)
    strengths = {"injection_strengths": "1", "vae": given.base.vae}
    swept = run(LambdaSweep, **{k: v for k, v in values.items() if k != "injection_strength"}, **strengths)[1]
    with torch.inference_mode():
        assert torch.equal(swept[1:], host_nodes.VAEDecode().decode(given.base.vae, {"samples": sampled})[0])


@pytest.mark.parametrize("name", ["LoRA", "scheduled hooks"])
def test_masks_and_schedules_act(name: str, given: Given) -> None:
    subject = CASES[name](given)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    plain = run(DCISampler, **sampling(subject))
    settings = {"strength_schedule": StrengthSchedule(at_start=1.5)}, {"auxiliary_mask": left}
    for changed in settings:
        assert (
            relative_difference(run(DCISampler, **sampling(subject, **changed))[0]["samples"], plain[0]["samples"])
            > 1e-4
        )
    assert plain[1].calls
