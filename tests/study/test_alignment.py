"""Alignments by a CLIP equal what transformers' own classes give, and what can be worked out by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from comfyui_dci.dci_core.errors import UserInputError
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from study.alignment import ClipScorer, Preprocessing, folder_tokenizer

END = 49407
PLAIN = {
    "size": {"shortest_edge": 24},
    "crop_size": {"height": 24, "width": 24},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.5, 0.2],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP as it is published, with the real vocabulary."""
    import comfy.sd1_clip

    path = tmp_path_factory.mktemp("clip")
    shutil.copytree(Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer", path, dirs_exist_ok=True)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"bos_token_id": END - 1, "eos_token_id": END, "pad_token_id": END}
    torch.manual_seed(0)
    text, vision = {**tower, **marks}, {**tower, "image_size": 24, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(PLAIN))
    return path


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return ClipScorer.from_folder(folder)


def pictures(count: int, height: int = 37, width: int = 50) -> Tensor:
    values = torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(count))
    return (values * 255).round() / 255


def their_processor() -> Any:
    """transformers' own preprocessing with Pillow; releases before 5 have no other."""
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind(**PLAIN)


@pytest.mark.parametrize("size", [(37, 50), (50, 37), (24, 24), (24, 31), (12, 13)])
def test_preprocessing_equals_the_processors_bit_for_bit(size: tuple[int, int]) -> None:
    images = pictures(2, *size)
    files = [(image * 255).round().byte().numpy() for image in images]
    theirs = their_processor()(files, return_tensors="pt")["pixel_values"]
    assert torch.equal(Preprocessing.from_config(PLAIN).prepare(images), theirs)


def test_preprocessing_by_hand() -> None:
    grey = torch.full((1, 48, 96, 3), 102 / 255)
    grey[:, :, :20] = 1.0  # outside the square in the middle
    seen = Preprocessing.from_config({**PLAIN, "size": 24, "crop_size": 24}).prepare(grey)
    assert seen.shape == (1, 3, 24, 24)
    expected = torch.tensor([(0.4 - 0.5) / 0.25, (0.4 - 0.4) / 0.5, (0.4 - 0.3) / 0.2])
    assert torch.allclose(seen, expected[None, :, None, None].expand_as(seen), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"do_center_crop": False},
        {"size": {"height": 24, "width": 24}},
        {"crop_size": 20},
        {"resample": 2},
        {"image_mean": [0.5]},
        {"image_std": None},
    ],
)
def test_another_preprocessing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserInputError, match="The preprocessing"):
        Preprocessing.from_config({**PLAIN, **change})


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3, 24, 24\]"):
        Preprocessing.from_config(PLAIN).prepare(torch.rand(2, 3, 24, 24))


def test_alignments_equal_those_of_transformers_classes(folder: Path, scorer: ClipScorer) -> None:
    images, references, texts = pictures(3), pictures(2, 30, 30), ["a dog on a beach", "A cat.", "a red car in space"]
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    processor = their_processor()

    def theirs(batch: Tensor) -> Any:
        files = [(image * 255).round().byte().numpy() for image in batch]
        words = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            return model(**words, **processor(files, return_tensors="pt"))

    seen, others = theirs(images), theirs(references)
    own = torch.diagonal(seen.logits_per_image) / model.logit_scale.exp()
    assert torch.allclose(scorer.text_alignment(images, texts), own, atol=1e-6)
    assert own.std() > 1e-3  # pictures and texts matter
    pairs = [[F.cosine_similarity(a, b, dim=0) for b in others.image_embeds] for a in seen.image_embeds]
    assert torch.allclose(scorer.image_alignment(images, references), torch.tensor(pairs).mean(dim=1), atol=1e-6)


class Towers(nn.Module):
    """Stands where a CLIP does: a picture's features are its mean colour, a text's those of its first word."""

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.visual_projection = self.text_projection = nn.Identity()

    def vision_model(self, pixels: Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=pixels.mean(dim=(2, 3)))

    def text_model(self, tokens: Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=torch.eye(3)[tokens[:, 0]])


def test_alignments_by_hand() -> None:
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    images = colours[:, None, None, :].expand(-1, 24, 24, -1)
    words = {"red": 0, "green": 1, "blue": 2}
    plain = Preprocessing(24, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    scorer = ClipScorer(Towers(), lambda texts: torch.tensor([[words[text]] for text in texts]), plain)  # type: ignore[arg-type]
    assert torch.allclose(scorer.text_alignment(images, "red"), torch.tensor([1.0, 0.6]))
    assert torch.allclose(scorer.text_alignment(images, ["blue", "green"]), torch.tensor([0.0, 0.8]))
    assert torch.allclose(scorer.image_alignment(images[:1], images), torch.tensor([0.8]))  # of 1.0 and 0.6
    with pytest.raises(ValueError, match="2 pictures came with 3 texts"):
        scorer.text_alignment(images, ["red", "red", "red"])


def test_many_pictures_and_texts_are_scored_as_few_are(scorer: ClipScorer) -> None:
    images, texts = pictures(40, 24, 24), [f"a dog and {number} cats" for number in range(40)]
    images_alone = torch.cat([scorer.image_features(image[None]) for image in images])
    texts_alone = torch.cat([scorer.text_features([text]) for text in texts])
    assert torch.allclose(scorer.image_features(images), images_alone, atol=1e-5)
    assert torch.allclose(scorer.text_features(texts), texts_alone, atol=1e-5)
    assert torch.allclose(images_alone.norm(dim=1), torch.ones(40), atol=1e-6)


def test_a_long_text_is_cut_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenize = folder_tokenizer(folder, 6)
    assert tokenize(["a dog", "a dog on a"]).tolist() == [
        [49406, 320, 1929, END, END, END],
        [49406, 320, 1929, 525, 320, END],
    ]
    assert not caplog.records
    assert tokenize(["a dog on a beach in space"]).tolist() == [[49406, 320, 1929, 525, 320, END]]
    assert "CLIP reads 6 tokens" in caplog.text


def _without(folder: Path, target: Path, *names: str) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*names))
    return target


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json", "preprocessor_config.json"])
def test_a_missing_file_is_told(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"No CLIP can be read from .*preprocessor_config\.json"):
        ClipScorer.from_folder(_without(folder, tmp_path / "clip", name))


def test_weights_that_do_not_fit_are_told(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = _without(folder, tmp_path / "clip")
    tensors = load_file(path / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserInputError, match="its weights lack visual_projection"):
        ClipScorer.from_folder(path)


def test_another_kind_of_model_is_told(folder: Path, tmp_path: Path) -> None:
    path = _without(folder, tmp_path / "clip")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    with pytest.raises(UserInputError, match="its model_type is 'siglip'"):
        ClipScorer.from_folder(path)
