"""The CLIP of the demo world: transformers' layout, what it learns from, and its file."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.errors import UserInputError
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from demo_world.clip import build_clip, clip_config, clip_scorer, load_clip, save_clip
from demo_world.commands import measure_clip, train_clip
from demo_world.contrastive import NameHeads, contrastive_loss, crop_views, near_miss, said
from demo_world.pool import Pool
from demo_world.scenes import Scene, caption, caption_variants, sample_scene
from demo_world.storage import save_checkpoint
from demo_world.tokens import END, START, known_ids, row_lookup, tokenize

PANDA = Scene("panda", companion="guitar", context="on a beach", colour="blue")


@pytest.fixture(scope="module")
def trained() -> CLIPModel:
    torch.manual_seed(0)
    return build_clip(len(known_ids())).eval()


@pytest.fixture(scope="module")
def file(trained: CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "clip.safetensors"
    save_clip(trained, path)
    return path


def test_the_layout_is_transformers(file: Path) -> None:
    config = CLIPConfig(**clip_config())
    theirs = CLIPModel(config)
    theirs.load_state_dict(load_clip(file).state_dict(), strict=True)
    assert config.text_config.vocab_size == 49408 and config.text_config.max_position_embeddings == 77
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (START, END)


def test_the_file_is_small_and_holds_what_was_trained(trained: CLIPModel, file: Path) -> None:
    assert file.stat().st_size < 10_000_000
    tokens = tokenize(["photo of a red bear in space"])
    pixels = torch.rand(2, 3, 128, 128)
    shipped = load_clip(file)
    with torch.no_grad():
        theirs = shipped(input_ids=tokens, pixel_values=pixels).logits_per_image
        rows = trained(input_ids=row_lookup()[tokens], pixel_values=pixels).logits_per_image
    assert torch.allclose(theirs / 14.3, rows / 14.3, atol=2e-3)  # cosines, by half precision
    assert (theirs / 14.3).abs().max() > 0.02


def test_texts_are_read_at_their_first_end(trained: CLIPModel) -> None:
    rows = train_clip.text_rows(["a cat on grass", "a cat"])
    end = len(known_ids()) - 1
    assert rows.shape == (2, 6) and rows[0, -1] == end and rows[1].tolist()[3:] == [end] * 3
    with torch.no_grad():
        found = trained.text_model(rows)
        assert torch.equal(found.pooler_output[1], found.last_hidden_state[1, 3])
        assert torch.allclose(trained.text_model(rows[1:, :4]).pooler_output, found.pooler_output[1:], atol=1e-5)


def test_the_scorers_tokens_are_those_of_training(file: Path) -> None:
    texts = [caption(PANDA), "a bear"]
    with torch.no_grad():
        model = load_clip(file)
        pooled = model.text_projection(model.text_model(tokenize(texts)).pooler_output)
    assert torch.allclose(clip_scorer(file).text_features(texts), F.normalize(pooled, dim=-1), atol=1e-5)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def _lose_a_tensor(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as source:
        metadata = source.metadata()
        tensors = {name: source.get_tensor(name) for name in source.keys() if name != "text_token_ids"}  # noqa: SIM118
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("damage", [_cut_short, _change_a_byte, _lose_a_tensor])
def test_a_damaged_file_is_told(damage: object, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    path.write_bytes(file.read_bytes())
    assert callable(damage)
    damage(path)
    with pytest.raises(UserInputError, match="cannot be read from .*clip.safetensors .*Check the repository out again"):
        load_clip(path)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train_clip --export"):
        load_clip(tmp_path / "clip.safetensors")


def test_the_loss_by_hand() -> None:
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    alone = contrastive_loss(images[:2], texts[:2], torch.tensor([0, 1]), torch.tensor(2.0))
    # cosines: picture 0 with its own 1.0 and 0.6; picture 1 with its own 0.8 and 0.0
    pictures = math.log(1 + math.exp(2 * (0.6 - 1.0))) + math.log(1 + math.exp(2 * (0.0 - 0.8)))
    captions = math.log(1 + math.exp(2 * (0.0 - 1.0))) + math.log(1 + math.exp(2 * (0.6 - 0.8)))
    assert float(alone) == pytest.approx((pictures + captions) / 4, rel=1e-6)
    # a near miss makes it harder for pictures alone: text 3 has cosine 1.0 with picture 1
    missed = contrastive_loss(images[:2], texts[[0, 1, 3]], torch.tensor([0, 1, 2]), torch.tensor(2.0))
    pictures = math.log(1 + math.exp(-0.8) + math.exp(-2.0)) + math.log(1 + math.exp(-1.6) + math.exp(2 * (1.0 - 0.8)))
    assert float(missed) == pytest.approx((pictures + captions) / 4, rel=1e-6)


def test_what_means_the_same_is_not_pushed_apart() -> None:
    images = F.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    texts = F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    found = contrastive_loss(images, texts, torch.tensor([7, 7, 8, 7]), torch.tensor(10.0))
    cosines = 10 * images.double() @ texts.double().T

    def entropy(own: int, others: list[int], scores: Tensor) -> float:
        return float(torch.logsumexp(scores[[own, *others]], dim=0) - scores[own])

    # pictures 0 and 1 and text 3 mean the same, so all that is wrong for the first two is text 2
    pictures = entropy(0, [2], cosines[0]) + entropy(1, [2], cosines[1]) + entropy(2, [0, 1, 3], cosines[2])
    captions = entropy(0, [2], cosines[:, 0]) + entropy(1, [2], cosines[:, 1]) + entropy(2, [0, 1], cosines[:, 2])
    assert float(found) == pytest.approx((pictures + captions) / 6, rel=1e-5)


def test_the_temperature_has_an_end() -> None:
    images, texts, meaning = torch.eye(2), torch.eye(2), torch.tensor([0, 1])
    highest, above = (contrastive_loss(images, texts, meaning, torch.tensor(scale)) for scale in (100.0, 1e4))
    assert torch.equal(highest, above)


def test_a_near_miss_differs_in_one_trait_that_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    changed = set()
    for _ in range(300):
        scene = sample_scene(rng)
        miss = near_miss(scene, rng)
        names = [name for name, value in asdict(scene).items() if getattr(miss, name) != value]
        assert len(names) == 1 and said(miss) != said(scene)
        assert caption(miss) != caption(scene)
        assert not (names == ["colour"] and scene.style == "black and white photo of")
        changed |= set(names)
    assert changed == set(asdict(PANDA))


def test_equal_captions_of_a_batch_have_equal_meanings() -> None:
    scenes = [PANDA, Scene("bear", companion="banjo", context="on a beach", colour="blue"), Scene("bear")]
    rows, meaning = train_clip.texts_of(scenes, np.random.default_rng(0))
    assert len(rows) == len(meaning) == 3 * (1 + train_clip.NEAR_MISSES)
    assert meaning[0] == meaning[1] != meaning[2] and (meaning[3:] != meaning[0]).any()
    spellings = [row_lookup()[tokenize([text])][0, : rows.shape[1]] for text in caption_variants(PANDA)]
    assert any(torch.equal(rows[0], spelling) for spelling in spellings)


def test_crops_keep_masks_on_their_objects() -> None:
    masks = torch.zeros(8, 2, 16, 16)
    masks[:, 0, 2:9, 3:8] = 1.0
    masks[:, 1, 10:13, 9:14] = 1.0
    pictures = F.interpolate(masks, size=(128, 128))
    pictures = torch.cat([pictures, torch.zeros(8, 1, 128, 128)], dim=1)
    views, cover = crop_views(pictures, masks, 8, torch.Generator().manual_seed(0))
    assert views.shape == pictures.shape and cover.shape == (8, 2, 64)
    seen = F.adaptive_avg_pool2d(views[:, :2], 8).flatten(2)
    assert float((seen - cover).abs().mean()) < 0.02
    columns = cover[:, 0].view(8, 8, 8).sum(dim=1).argmax(dim=1)
    assert (columns < 4).any() and (columns > 3).any()  # some are mirrored


def test_patches_are_named_by_what_covers_them() -> None:
    heads = NameHeads(4, 4)
    with torch.no_grad():
        heads.patch.weight.zero_()
        heads.patch.weight[5, 0] = heads.patch.weight[6, 1] = 3.0
        heads.patch.bias.zero_()
    names = len(heads.sprites)
    patches = torch.eye(4)[None, :2]  # the first looks like sprite 5, the second like 6
    cover = torch.tensor([[[1.0, 0.25], [0.0, 0.5]]])
    sure, wrong = math.log(math.exp(3) + names - 1) - 3, math.log(math.exp(3) + names - 1)
    expected = (1.0 * sure + 0.25 * wrong + 0.5 * sure) / 1.75
    found = heads.patch_loss(patches, cover, torch.tensor([[5, 6]]))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def _pool() -> Pool:
    """Pictures of two flat colours, one for each scene."""
    scenes = [Scene("panda"), Scene("guitar", context="in space")] * 8
    pictures = torch.stack([torch.full((3, 128, 128), 40 + 150 * (i % 2)) for i in range(len(scenes))]).byte()
    return Pool(pictures, torch.full((len(scenes), 2, 16, 16), 120).byte(), scenes)


def _train(training: train_clip.Training, pool: Pool, steps: int) -> list[float]:
    sprites = torch.zeros(len(pool), 2, dtype=torch.int64)
    return [
        training.learn(train_clip.batch_at(training.step, pool, sprites, 8, torch.device("cpu")), 1.0)["captions"]
        for _ in range(steps)
    ]


def test_training_learns_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    pool = _pool()
    training = train_clip.Training(torch.device("cpu"), 1e-3, "these")
    losses = _train(training, pool, 3)
    save_checkpoint(tmp_path / "clip.pt", training.state())
    resumed = train_clip.Training(torch.device("cpu"), 1e-3, "these")
    resumed.resume(tmp_path / "clip.pt")
    after = [_train(each, pool, 3) for each in (training, resumed)]
    assert after[0] == after[1]
    assert after[0][-1] < losses[0] - 0.2
    with pytest.raises(ValueError, match=r"another world \(these\) than this one \(others\).*--restart"):
        train_clip.Training(torch.device("cpu"), 1e-3, "others").resume(tmp_path / "clip.pt")


def _fake_features(right: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(right, dtype=torch.float32), dim=-1)


def test_retrieval_counts_pictures_whose_own_caption_is_nearest() -> None:
    scenes = [Scene("panda"), Scene("guitar"), Scene("bear")]  # the first and the third are said alike
    images = _fake_features([[1, 0], [0, 1], [1, 0.1]])
    texts = _fake_features([[1, 0], [1, 0.5], [1, 0]])
    assert measure_clip.retrieval(images, texts, scenes, np.random.default_rng(0)) == 1.0
    texts = _fake_features([[1, 0], [0, 1], [-1, 0]])
    assert measure_clip.retrieval(images, texts, scenes, np.random.default_rng(0)) == pytest.approx(2 / 3)


def test_every_trait_is_asked_against_all_others() -> None:
    asked = measure_clip.variants(PANDA)
    assert {name: len(scenes) for name, scenes in asked.items()} == {
        "noun": 101,  # but the companion's
        "second noun": 102,  # none, or any but bear
        "context": 25,
        "style": 5,
        "colour": 5,
    }
    assert all(scenes[0] == PANDA and len({said(s) for s in scenes}) == len(scenes) for scenes in asked.values())
    grey = measure_clip.variants(Scene("panda", style="black and white photo of", colour="red"))
    assert set(grey) == {"noun", "no second noun", "context", "style"}


def test_likeness_is_the_mean_over_pairs() -> None:
    scenes = [Scene("panda"), Scene("panda", context="in space"), Scene("bear"), Scene("guitar")]
    images = _fake_features([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]])
    found = measure_clip.likeness(images, scenes)
    expected = {"same sprite": 0.6, "same noun only": 0.4, "other noun": (-1 - 0.6 + 0) / 3}
    assert found == pytest.approx(expected, abs=1e-6)


def test_zero_shot_is_right_where_the_own_caption_is_nearest(file: Path) -> None:
    scorer = clip_scorer(file)
    scenes = [PANDA, Scene("bear")]
    as_said = scorer.text_features([caption(scene) for scene in scenes])  # pictures that are what their captions say
    assert set(measure_clip.zero_shot(scorer, as_said, scenes).values()) == {1.0}
    assert set(measure_clip.zero_shot(scorer, -as_said, scenes).values()) == {0.0}
