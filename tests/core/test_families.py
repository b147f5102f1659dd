"""The facts of the model families."""

from __future__ import annotations

from comfyui_dci.dci_core.families import FAMILIES, SD2_BASE, TEXT_ENCODERS


def test_families_are_known_by_their_names_and_read_by_known_encoders() -> None:
    assert sorted(TEXT_ENCODERS) == ["clip_g", "clip_h", "clip_l"]
    for name, family in FAMILIES.items():
        assert family.name == name and set(family.text_encoders) <= set(TEXT_ENCODERS)
        assert family.pooled_from is None or family.pooled_from in family.text_encoders
        assert (family.resolution(0), family.resolution(64)) == (family.native_resolution, 64)
        assert family.native_latent * family.pixels_per_latent == family.native_resolution


def test_the_latent_of_a_square_image_by_hand() -> None:
    assert FAMILIES["sd1"].latent_shape(512) == FAMILIES["sdxl"].latent_shape(512) == (4, 64, 64)
    assert FAMILIES["sd1"].latent_shape(FAMILIES["sd1"].native_resolution)[1] == FAMILIES["sd1"].native_latent


def test_sd2_base_is_sd2_on_smaller_images() -> None:
    assert (SD2_BASE.name, SD2_BASE.native_resolution, SD2_BASE.native_latent) == ("sd2", 512, 64)
    assert (FAMILIES["sd2"].native_resolution, FAMILIES["sd2"].text_encoders) == (768, SD2_BASE.text_encoders)
