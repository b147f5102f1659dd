"""Our CLIP text transformer against the one of transformers, on tiny random weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from comfyui_dci.dci_core.training.clip_text import ClipTextTransformer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

VOCABULARY, WIDTH, LENGTH, LAYERS, HEADS = 40, 16, 9, 4, 2
START, END = VOCABULARY - 2, VOCABULARY - 1
END_POSITIONS = [5, 3, 7]  # of the three prompts

# Both run in float64; the two attentions add in different orders, which costs a few of 16 digits per layer.
TOLERANCE = {"atol": 1e-12, "rtol": 0.0}


def peer(gelu: str) -> CLIPTextModelWithProjection:
    """transformers' model with weights large enough that every part of it matters."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LENGTH,
        projection_dim=6,
        hidden_act=gelu,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    model = CLIPTextModelWithProjection(config).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * 0.4)
    return model


def weights_of(model: CLIPTextModelWithProjection) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


def ours(weights: Mapping[str, Tensor], gelu: str, layer: int | None = None, norm: bool = True) -> ClipTextTransformer:
    return ClipTextTransformer(weights, HEADS, gelu, layer, norm)


def prompt_ids() -> Tensor:
    words = torch.randint(0, START, (3, LENGTH), generator=torch.Generator().manual_seed(4))
    words[:, 0] = START
    for row, end in zip(words, END_POSITIONS):
        row[end:] = END
    return words


def embedded(weights: Mapping[str, Tensor]) -> Tensor:
    return weights["text_model.embeddings.token_embedding.weight"][prompt_ids()]


@pytest.mark.parametrize("gelu", ["quick_gelu", "gelu"])
def test_the_last_layer_equals_transformers(gelu: str) -> None:
    model = peer(gelu)
    weights = weights_of(model)
    with torch.no_grad():
        expected = model(input_ids=prompt_ids()).last_hidden_state
    for norm in (True, False):  # the last layer is always normalised
        conditioning, pooled = ours(weights, gelu, None, norm).encode(embedded(weights), END_POSITIONS)
        torch.testing.assert_close(conditioning, expected, **TOLERANCE)
        assert pooled is None


def test_the_two_activations_differ() -> None:
    """So that the test above cannot pass with either."""
    weights = weights_of(peer("gelu"))
    quick, exact = (ours(weights, gelu).encode(embedded(weights), END_POSITIONS)[0] for gelu in ("quick_gelu", "gelu"))
    assert (quick - exact).abs().max() > 1e-3


@pytest.mark.parametrize("gelu", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("layer", [-1, -2, -3, 0, 2])
def test_clip_skip_without_norm_equals_transformers_hidden_states(gelu: str, layer: int) -> None:
    model = peer(gelu)
    weights = weights_of(model)
    with torch.no_grad():
        states = model(input_ids=prompt_ids(), output_hidden_states=True).hidden_states
    expected = states[layer if layer < 0 else layer + 1]  # states[0] is the input of layer 0
    for with_pooled in (False, True):
        clip = ours(weights, gelu, layer, norm=False)
        conditioning, _ = clip.encode(embedded(weights), END_POSITIONS, with_pooled)
        torch.testing.assert_close(conditioning, expected, **TOLERANCE)


def test_clip_skip_with_norm_normalises_that_layers_output() -> None:
    model = peer("quick_gelu")
    weights = weights_of(model)
    with torch.no_grad():
        states = model(input_ids=prompt_ids(), output_hidden_states=True).hidden_states
        expected = model.text_model.final_layer_norm(states[-2])
    conditioning, _ = ours(weights, "quick_gelu", -2, norm=True).encode(embedded(weights), END_POSITIONS)
    torch.testing.assert_close(conditioning, expected, **TOLERANCE)


@pytest.mark.parametrize("gelu", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("layer, norm", [(None, True), (-2, False), (0, True)])
def test_each_pooled_vector_is_read_at_the_end_of_its_own_prompt_in_the_last_layer(
    gelu: str, layer: int | None, norm: bool
) -> None:
    model = peer(gelu)
    weights = weights_of(model)
    with torch.no_grad():
        expected = model(input_ids=prompt_ids()).text_embeds
    _, pooled = ours(weights, gelu, layer, norm).encode(embedded(weights), END_POSITIONS, with_pooled=True)
    assert pooled is not None
    torch.testing.assert_close(pooled, expected, **TOLERANCE)


def test_a_token_changes_nothing_before_it() -> None:
    weights = weights_of(peer("gelu"))
    clip, embeddings = ours(weights, "gelu"), embedded(weights)
    changed = embeddings.clone()
    changed[:, 4] += torch.randn(WIDTH, dtype=torch.float64)  # a constant would be taken out by the layer norms
    before, after = clip.encode(embeddings, END_POSITIONS)[0], clip.encode(changed, END_POSITIONS)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert ((before - after)[:, 4:].abs().amax(dim=-1) > 1e-3).all()


def test_gradients_with_respect_to_the_embeddings_equal_finite_differences() -> None:
    weights = weights_of(peer("quick_gelu"))
    clip = ours(weights, "quick_gelu", -2, norm=False)
    upstream = torch.randn(LENGTH, WIDTH, dtype=torch.float64), torch.randn(6, dtype=torch.float64)

    def value(embeddings: Tensor) -> Tensor:
        """One number per prompt, made of both results."""
        conditioning, pooled = clip.encode(embeddings, END_POSITIONS[:1] * len(embeddings), with_pooled=True)
        assert pooled is not None
        return (conditioning * upstream[0]).sum(dim=(1, 2)) + (pooled * upstream[1]).sum(dim=1)

    embeddings = embedded(weights)[:1].requires_grad_()
    value(embeddings).sum().backward()
    assert embeddings.grad is not None
    # every entry is moved by ±1e-5 in a prompt of its own; central differences of that step are good to about 1e-9
    moves = 1e-5 * torch.eye(LENGTH * WIDTH, dtype=torch.float64).view(-1, LENGTH, WIDTH)
    start = embeddings.detach()
    differences = (value(start + moves) - value(start - moves)) / 2e-5
    torch.testing.assert_close(embeddings.grad.flatten(), differences, rtol=1e-6, atol=1e-7)
    assert embeddings.grad.abs().max() > 0.1


def test_the_weights_stay_frozen() -> None:
    weights = weights_of(peer("gelu"))
    before = {name: value.clone() for name, value in weights.items()}
    embeddings = embedded(weights).requires_grad_()
    conditioning, pooled = ours(weights, "gelu").encode(embeddings, END_POSITIONS, with_pooled=True)
    assert pooled is not None
    (conditioning.sum() + pooled.sum()).backward()
    assert embeddings.grad is not None
    assert all(torch.equal(value, before[name]) and value.grad is None for name, value in weights.items())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision_are_computed_in_the_embeddings_precision(stored: torch.dtype) -> None:
    weights = {name: value.to(stored) for name, value in weights_of(peer("gelu")).items()}
    wide = {name: value.float() for name, value in weights.items()}
    embeddings = embedded(wide)
    actual = ours(weights, "gelu").encode(embeddings, END_POSITIONS, with_pooled=True)
    expected = ours(wide, "gelu").encode(embeddings, END_POSITIONS, with_pooled=True)
    for got, wanted in zip(actual, expected):
        assert got is not None
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


def test_a_prompt_shorter_than_the_encoder_takes_the_first_positions() -> None:
    weights = weights_of(peer("gelu"))
    clip, embeddings = ours(weights, "gelu"), embedded(weights)
    whole, short = clip.encode(embeddings, END_POSITIONS)[0], clip.encode(embeddings[:, :6], END_POSITIONS)[0]
    torch.testing.assert_close(short, whole[:, :6], **TOLERANCE)


def test_the_number_of_layers_is_read_from_the_weights() -> None:
    assert ours(weights_of(peer("gelu")), "gelu").layers == LAYERS
