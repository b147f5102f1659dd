"""The demo world draws what its captions say, and its networks compute what the host computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from demo_world.autoencoder import SD1_SCALE, build_autoencoder, posterior, whiten_latents
from demo_world.classifier import NAMES
from demo_world.concepts import CONCEPTS, concept_sprite, reference_images, render_concept
from demo_world.denoiser import attention, build_unet, predict_noise, signal_and_noise, use_fast_group_norm
from demo_world.objective import cell_weights, draw_timesteps, timestep_shares
from demo_world.scenes import Scene, caption, caption_variants, labels, sample_scene
from demo_world.schedule import warmup_stable_decay
from demo_world.text_encoder import TextEncoder
from demo_world.tokens import END, START, known_ids, row_lookup, tokenize
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES
from demo_world.world import draw

TURTLE = Scene("turtle", second_noun="apple", context="on grass", style="sketch of", colour="red")


def test_a_caption_says_what_the_scene_holds() -> None:
    assert caption(TURTLE) == "sketch of a red turtle with an apple on grass"
    assert caption(Scene("umbrella")) == "photo of an umbrella"
    assert caption_variants(Scene("cat", context="at night")) == (
        "photo of a cat at night",
        "a photo of a cat at night",
        "a cat at night",
    )
    assert labels(TURTLE) == (4, 9, 1, 2, 1)
    with pytest.raises(ValueError, match="must differ"):
        Scene("cat", second_noun="cat")
    with pytest.raises(ValueError, match="zebra"):
        Scene("zebra")


def test_the_same_generator_draws_the_same_picture() -> None:
    first, again, other = (draw(TURTLE, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.image.shape == (128, 128, 3) and first.image.dtype == np.uint8
    assert np.array_equal(first.image, again.image) and np.array_equal(first.foreground, again.foreground)
    assert not np.array_equal(first.image, other.image)


def test_every_part_of_a_scene_changes_the_picture() -> None:
    plain = Scene("house")
    changes = [
        {"noun": "car"},
        {"second_noun": "cat"},
        *({"context": c} for c in CONTEXTS[1:]),
        *({"style": s} for s in STYLES[1:]),
        *({"colour": c} for c in list(COLOURS)[1:]),
    ]
    pictures = [draw(replace(plain, **change), np.random.default_rng(0)).image for change in ({}, *changes)]
    means = np.array([[np.abs(a.astype(int) - b).mean() for b in pictures] for a in pictures])
    assert (means + 255 * np.eye(len(pictures)) > 1.0).all()


def test_the_foreground_is_where_the_objects_are() -> None:
    rng = np.random.default_rng(1)
    scene = Scene("apple", context="on sand")
    covered = draw(scene, rng).foreground > 0
    assert 0.1 < covered.mean() < 0.5
    paired = draw(replace(scene, second_noun="cup"), np.random.default_rng(1)).foreground > 0
    assert paired.any() and not np.array_equal(covered, paired)


def test_scenes_come_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(4000)]
    assert {scene.noun for scene in scenes} == set(NOUNS) and {scene.context for scene in scenes} == set(CONTEXTS)
    shares = [
        np.mean([test(scene) for scene in scenes])
        for test in (
            lambda s: s.second_noun is not None,
            lambda s: s.style != "photo of",
            lambda s: s.colour != "",
        )
    ]
    assert np.allclose(shares, [0.25, 0.3, 0.15], atol=0.03)


def test_concepts_are_graded_and_unlike_anything_in_training() -> None:
    assert len(CONCEPTS) >= 8 and {concept.difficulty for concept in CONCEPTS} == {1, 2, 3}
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    assert NAMES["subject"] == (*NOUNS, *(concept.name for concept in CONCEPTS))
    for concept in CONCEPTS:
        assert concept.glyph not in NOUNS.values()
        assert concept_sprite(concept).getchannel("A").getextrema() == (0, 255)
    photos = reference_images(CONCEPTS[0], np.random.default_rng(0))
    assert len(photos) == 6 and photos[0].shape == (128, 128, 3)
    with pytest.raises(ValueError, match="is a cat, but the scene shows a dog"):
        render_concept(CONCEPTS[0], Scene("dog"), np.random.default_rng(0))


def test_captions_become_the_tokens_of_the_host() -> None:
    from comfy.sd1_clip import SDTokenizer

    text = caption(TURTLE)
    theirs = [token for token, _ in SDTokenizer().tokenize_with_weights(text)[0]]
    ours = tokenize([text, ""])
    assert ours[0].tolist() == theirs and ours[1].tolist() == [START] + [END] * 76
    assert {43514, 47629, 42170} <= set(known_ids())  # the rare words that a concept starts from
    assert (row_lookup()[ours] >= 0).all() and (row_lookup() >= 0).sum() == len(known_ids())
    assert all(len(tokenize([noun])[0].unique()) == 3 for noun in NOUNS)  # start, one token, end


def test_attention_equals_torchs() -> None:
    q, k, v = torch.randn(2, 10, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 12)
    heads = [x.unflatten(-1, (3, 4)).transpose(1, 2) for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(q, k, v, heads=3), expected, atol=1e-6)


def test_the_unet_computes_what_the_host_computes() -> None:
    torch.manual_seed(0)
    unet = build_unet()
    for parameter in unet.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.02)
    noisy, steps, context = torch.randn(2, 4, 16, 16), torch.tensor([10.0, 900.0]), torch.randn(2, 77, 128)
    with torch.no_grad():
        expected = unet(noisy, steps, context, transformer_options={})
        use_fast_group_norm(unet)
        found = predict_noise(unet, noisy, steps, context)
    assert expected.abs().max() > 0.01
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_noise_schedule_is_the_hosts() -> None:
    from comfy.model_sampling import ModelSamplingDiscrete

    signal, noise = signal_and_noise()
    assert torch.allclose(noise / signal, ModelSamplingDiscrete().sigmas, rtol=1e-4)


def test_whitened_latents_have_unit_deviation_and_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    model = build_autoencoder()
    pictures = torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = model.decode(posterior(model, pictures)[0])
        whiten_latents(model, pictures)
        latents = posterior(model, pictures)[0]
        after = model.decode(latents)
    scaled = latents * SD1_SCALE
    assert torch.allclose(scaled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert scaled.std() < 1.05 and torch.linalg.eigvalsh(torch.cov(scaled.movedim(1, 0).flatten(1))).max() < 1.01
    assert torch.allclose(before, after, atol=1e-4)


def test_timesteps_are_drawn_by_their_shares() -> None:
    shares = timestep_shares()
    assert shares.shape == (1000,) and torch.isclose(shares.sum(), torch.tensor(1.0)) and shares.min() > 0
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_timesteps(32, generator) for _ in range(300)])
    found = torch.histc(drawn.float(), bins=4, min=0, max=1000) / len(drawn)
    assert torch.allclose(found, shares.view(4, 250).sum(dim=1), atol=0.01)


def test_cells_with_objects_weigh_more_until_noise_hides_them() -> None:
    coverage = torch.zeros(2, 2, 2, dtype=torch.uint8)
    coverage[:, 0, 0] = 255
    early, late = cell_weights(coverage, torch.tensor([999, 0]))
    assert torch.allclose(early.mean(), torch.tensor(1.0)) and torch.allclose(late.mean(), torch.tensor(1.0))
    assert torch.isclose(late[0, 0, 0] / late[0, 1, 1], torch.tensor(3.5), rtol=1e-2)
    assert early[0, 0, 0] / early[0, 1, 1] < 1.05


def test_the_learning_rate_rises_stays_and_falls() -> None:
    shares = [warmup_stable_decay(step, 100, warmup=10) for step in (0, 9, 50, 85, 99)]
    assert np.allclose(shares, [0.1, 1.0, 1.0, 0.5, 1 / 30])


def test_the_text_encoder_reads_words_not_padding() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder()
    with torch.no_grad():
        whole, cut = encoder(tokenize(["a cat on grass"])), encoder(tokenize(["a cat on grass"])[:, :6])
        other = encoder(tokenize(["a dog on grass"]))
    assert torch.allclose(whole[:, :6], cut, atol=1e-6)
    assert torch.equal(whole[:, :2], other[:, :2]) and not torch.equal(whole[:, 2], other[:, 2])
