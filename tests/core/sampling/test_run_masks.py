"""Which run's masks belong to a picture: by what made it, else by size and number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.masks import BlendMasks, CallMasks, Origin, RunStamp
from comfyui_dci.dci_core.sampling.run_masks import (
    KEPT_RUNS,
    Ancestor,
    PictureSource,
    RunMasks,
    masks_of,
    remark_on_later_samplers,
)

CALLS = (CallMasks(1.0, 999.0, {(2, 2): torch.rand(1, 1, 2, 2)}),)


def run_of(
    node: str | None = None, signature: str | None = None, place: int = 0, images: int = 1, edge: int = 64
) -> BlendMasks:
    origin = None if node is None else Origin(node, place, signature)
    return BlendMasks(CALLS, (8, 8), RunStamp(images, edge, edge, origin))


def kept(*runs: BlendMasks) -> RunMasks:
    masks = RunMasks()
    for run in runs:
        masks.publish(run)
    return masks


def picture(*lineage: tuple[str, str, bool], images: int = 1, edge: int = 64, **facts: Any) -> PictureSource:
    """A picture that came about in one way, nearest node first."""
    above = [((name,),) for name, *_ in lineage[1:]] + [((),)]
    return PictureSource(images, edge, edge, lineage=[Ancestor(*a, *b) for a, b in zip(lineage, above)], **facts)


DECODED = ("decode", "of the VAE", False)


def test_the_newest_runs_are_kept_and_the_latest_is_told() -> None:
    runs = [run_of(str(number)) for number in range(KEPT_RUNS + 2)]
    masks = kept(*runs)
    assert KEPT_RUNS == 8 and masks.runs == tuple(runs[2:]) and masks.latest is runs[-1]
    assert RunMasks().runs == () and RunMasks().latest == BlendMasks()
    none = RunMasks(0)
    none.publish(runs[0])
    assert none.runs == ()


def test_a_node_that_samples_often_does_not_drive_out_the_runs_of_others() -> None:
    first, second, tiles = run_of("3", "a"), run_of("3", "b"), [run_of("9", str(number)) for number in range(12)]
    assert kept(first, second, *tiles).runs == (first, second, *tiles[-KEPT_RUNS + 2 :])


def test_a_picture_finds_its_run_whatever_ran_in_between() -> None:
    first, second, older_seed = run_of("3", "a"), run_of("7", "b"), run_of("3", "c")
    masks = kept(older_seed, first, second)
    sampled = ("3", "a", True)
    assert masks_of(picture(DECODED, sampled), masks) is first
    assert masks_of(picture(DECODED, ("7", "b", True), sampled), masks) is second  # the second pass of the first
    assert masks_of(picture(DECODED, ("3", "c", True)), masks) is older_seed  # as --cache-lru brings it back
    assert masks_of(picture(DECODED, ("9", "plain", False), sampled), masks) is first


def test_of_runs_with_equal_inputs_the_one_of_the_same_node_is_taken_then_the_latest() -> None:
    same, other, again = run_of("3", "a"), run_of("5", "a"), run_of("3", "a")
    assert masks_of(picture(("3", "a", True)), kept(same, other)) is same
    assert masks_of(picture(("3", "a", True)), kept(same, again, other)) is again
    assert masks_of(picture(("5", "a", True)), kept(same)) is same  # the host gave it the outputs of node 3
    tile = run_of("3", "a", edge=32)
    assert masks_of(picture(("3", "a", True)), kept(same, tile)) is same


def test_pictures_of_a_list_have_the_masks_of_their_place() -> None:
    masks = kept(*(run_of("3", "a", place) for place in range(3)))
    for place in range(3):
        assert masks_of(picture(("3", "a", True), place=place), masks) is masks.runs[place]
    assert masks_of(picture(("3", "a", True), place=4), kept(run_of("3", "a"))).stamp.origin == Origin("3", 0, "a")
    with pytest.raises(UserInputError, match="not kept any more"):
        masks_of(picture(("3", "a", True), place=3), masks)


def test_a_picture_whose_run_is_not_kept_is_refused_with_the_cure() -> None:
    earlier_pass = run_of("3", "a")
    source = picture(DECODED, ("7", "gone", True), ("3", "a", True))
    for masks in (kept(earlier_pass), RunMasks()):
        with pytest.raises(UserInputError, match="not kept any more.*of 8 runs.*Change the seed.*DCI Sampler"):
            masks_of(source, masks)


def test_a_picture_of_another_sampler_is_refused() -> None:
    run = run_of("3", "a")
    for given in (kept(run), run):
        with pytest.raises(UserInputError, match="was not made by a run whose masks are connected"):
            masks_of(picture(DECODED, ("9", "plain", False)), given)


@pytest.mark.parametrize("switch", [("low", "high"), ("high", "low")])
def test_behind_a_switch_the_run_that_fits_is_taken_and_equal_ones_are_refused(switch: tuple[str, str]) -> None:
    lineage = [
        Ancestor("switch", "s", False, switch),
        Ancestor("low", "l", False, ("first",)),
        Ancestor("high", "h", False, ("second",)),
        Ancestor("first", "1", True),
        Ancestor("second", "2", True, ("first",)),
    ]
    first, second, larger = run_of("first", "1"), run_of("second", "2"), run_of("second", "2", edge=96)
    assert masks_of(PictureSource(1, 64, 64, lineage=lineage), kept(first, larger)) is first
    assert masks_of(PictureSource(1, 96, 96, lineage=lineage), kept(first, larger)) is larger
    assert masks_of(PictureSource(1, 64, 64, lineage=lineage), kept(first)) is first  # the second pass is switched off
    with pytest.raises(
        UserInputError, match=r"Several samplers lead to this picture \(first, second\).*as the VAE decodes"
    ):
        masks_of(PictureSource(1, 64, 64, lineage=lineage), kept(first, second))


def remark(given: BlendMasks | RunMasks, *lineage: Ancestor, edge: int = 64) -> str | None:
    source = PictureSource(1, edge, edge, lineage=lineage or None)
    return remark_on_later_samplers(source, given, masks_of(source, given))


FIRST = Ancestor("3", "a", True, ("empty",), "KSampler")
EMPTY = Ancestor("empty", "e", False)


def later(node: str, source: str, has_model: bool = False) -> Ancestor:
    return Ancestor(node, f"of {node}", has_model, (source,), "KSampler")


def decoded(*sources: str) -> Ancestor:
    return Ancestor("decode", "d", False, sources)


@pytest.mark.parametrize("run", [run_of("3", "a"), run_of("3"), run_of(), BlendMasks()])
def test_samplers_between_the_run_and_the_picture_are_told(run: BlendMasks) -> None:
    words = "These are the masks of node 3 (KSampler). Sampled on since, with other masks or none: "
    for given in (run, kept(run)) if run.calls else (run,):
        assert remark(given, decoded("3"), FIRST, EMPTY) is None
        assert remark(given, decoded("7"), later("7", "3"), FIRST, EMPTY) == words + "node 7 (KSampler)."
        both = remark(given, decoded("9"), later("9", "7"), later("7", "3"), FIRST, EMPTY)
        assert both == words + "node 7 (KSampler), node 9 (KSampler)."
        assert remark(given) is None


def test_what_sampled_before_the_run_or_beside_it_is_not_told() -> None:
    earlier = Ancestor("1", "x", False, (), "KSampler")
    beside = Ancestor("2", "y", False, (), "KSampler")
    second = Ancestor("3", "a", True, ("1",), "KSampler")
    for given in (run_of("3", "a"), kept(run_of("3", "a"))):
        assert remark(given, decoded("2", "3"), beside, second, earlier) is None
    assert remark(BlendMasks(), decoded("2"), beside) is None


def test_masks_of_a_later_pass_are_its_own_and_a_pass_that_is_switched_off_is_not_told() -> None:
    second, larger = later("7", "3", has_model=True), run_of("7", "of 7", edge=96)
    assert remark(kept(run_of("3", "a"), run_of("7", "of 7")), decoded("7"), second, FIRST, EMPTY) is None
    assert remark(kept(run_of("3", "a"), larger), decoded("7", "3"), second, FIRST, EMPTY) is None
    third = later("9", "7")
    told = remark(kept(run_of("3", "a"), larger), decoded("9"), third, second, FIRST, EMPTY, edge=96)
    assert told is not None and "masks of node 7 (KSampler)" in told and told.endswith("none: node 9 (KSampler).")
    unfolded = Ancestor("3", "a", True, (), "")  # its sampler is inside
    assert "masks of node 3. Sampled" in (remark(run_of("3.0.1"), decoded("7"), later("7", "3"), unfolded) or "")


def test_without_a_known_graph_the_newest_that_fits_is_taken() -> None:
    old, fitting, larger = run_of(), run_of(), run_of(edge=128)
    assert masks_of(PictureSource(1, 64, 64), kept(old, fitting, larger)) is fitting
    assert masks_of(PictureSource(1, 128, 128), kept(old, fitting, larger)) is larger
    assert masks_of(picture(DECODED), kept(run_of("1.0.3"))).stamp.origin == Origin("1.0.3")  # a node unfolded it
    both = kept(run_of("1.0.3"), run_of("1.0.4"))
    with pytest.raises(
        UserInputError, match=r"Several nodes have sampled with this model \(1.0.3, 1.0.4\).*of its own"
    ):
        masks_of(PictureSource(1, 64, 64), both)
    with pytest.raises(UserInputError, match="64 x 64 pixels, the run made 128 x 128"):
        masks_of(PictureSource(1, 64, 64), kept(larger))


def test_an_inactive_run_is_known_as_such() -> None:
    inactive = BlendMasks(stamp=RunStamp(1, 64, 64, Origin("7", 0, "b")))
    masks = kept(inactive, run_of("3", "a"))
    assert masks_of(picture(DECODED, ("7", "b", True), ("3", "a", True)), masks) is inactive
    assert masks_of(picture(DECODED, ("9", "plain", False)), BlendMasks()) == BlendMasks()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            picture(("3", "a", True), images=3, edge=128),
            "128 x 128 pixels, the run made 64 x 64. Connect the picture as",
        ),
        (picture(("3", "a", True)), "1 image was given, the run made 3. Connect all of them, or one, with row set to"),
        (picture(("3", "a", True), images=4), "4 images were given, the run made 3"),
        (picture(("3", "a", True), row=4), "There is no row 4: the images of the run are numbered 1 … 3. 0 takes all."),
        (
            picture(("3", "a", True), images=2, row=1),
            "Row 1 was asked for and 2 images were given. Connect one image, or all 3",
        ),
    ],
)
def test_a_picture_whose_size_or_number_is_not_the_runs_is_refused_with_the_cure(
    source: PictureSource, words: str
) -> None:
    for given in (run_of("3", "a", images=3), kept(run_of("3", "a", images=3))):
        with pytest.raises(UserInputError) as refusal:
            masks_of(source, given)
        assert words in str(refusal.value)


def test_a_row_is_asked_for_with_the_one_picture_or_with_all() -> None:
    run = run_of("3", "a", images=3)
    pictures = torch.rand(3, 8, 8, 3)
    for images in (1, 3):
        source = picture(("3", "a", True), images=images, row=2)
        assert masks_of(source, run) is run
        assert torch.equal(source.wanted(pictures[:images]), pictures[1:2] if images == 3 else pictures[:1])
    assert torch.equal(picture(images=3).wanted(pictures), pictures)
