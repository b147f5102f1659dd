"""The masks of a model's latest runs, and which of them belong to a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from ..errors import UserInputError
from .masks import BlendMasks, Origin, RunStamp

KEPT_RUNS = 8
"""How many runs of a patched model keep their masks."""
NOT_KEPT = (
    f"The masks of this picture's run are not kept any more: a model keeps those of {KEPT_RUNS} runs, until "
    "Apply DCI runs again. Change the seed, so that the sampler runs again, or take DCI Sampler, whose masks stay with "
    "its latent."
)
OTHER_RUN = (
    "This picture was not made by a run whose masks are connected. Connect masks and picture of the same run: the "
    "picture that is decoded from the latent of DCI Sampler, or of the sampler behind Apply DCI."
)


class RunMasks:
    """The masks of finished runs with one patched model, oldest first.

    Where there are too many, the oldest of the node with the most runs goes: a node that samples often, such as a tiled
    upscaler, does not drive out the others'.

    Args:
        most: how many runs are kept; 0 keeps none.
    """

    def __init__(self, most: int = KEPT_RUNS) -> None:
        self._most = most
        self._runs: list[BlendMasks] = []

    def publish(self, masks: BlendMasks) -> None:
        """Keep the masks of a run that has finished."""
        self._runs.append(masks)
        if len(self._runs) > self._most:
            nodes = [_origin(run).node for run in self._runs]
            of_each = Counter(nodes)
            del self._runs[next(place for place, node in enumerate(nodes) if of_each[node] == max(of_each.values()))]

    @property
    def runs(self) -> tuple[BlendMasks, ...]:
        """All that are kept."""
        return tuple(self._runs)

    @property
    def latest(self) -> BlendMasks:
        """The masks of the latest run; without any calls where none has finished."""
        return self._runs[-1] if self._runs else BlendMasks()


@dataclass(frozen=True)
class Ancestor:
    """A node of the graph that leads to a picture.

    Args:
        node: its id.
        signature: of its inputs and of all that leads to them, as in ``Origin``.
        has_model: whether it is given the model that the masks belong to, or is the node that they come from.
        sources: ids of the nodes that it has pictures from.
        sampler: its class where it is given any model, as samplers are; else "".
    """

    node: str
    signature: str
    has_model: bool
    sources: tuple[str, ...] = ()
    sampler: str = ""

    def label(self) -> str:
        """Return what a message calls it."""
        return f"node {self.node} ({self.sampler})" if self.sampler else f"node {self.node}"


@dataclass(frozen=True)
class PictureSource:
    """The pictures whose masks are wanted, and how they came about.

    Args:
        images: how many are given.
        height_px: of each.
        width_px: likewise.
        row: 0: they are all images of the run. n: the masks of number n of the run are wanted, from 1.
        lineage: what leads to them, nearest first; None where the graph is not known.
        place: which of the pictures in a list they are, from 0.
    """

    images: int
    height_px: int
    width_px: int
    row: int = 0
    lineage: Sequence[Ancestor] | None = None
    place: int = 0

    def misfit(self, stamp: RunStamp) -> str | None:
        """Return why these cannot be the pictures of a run, with the cure, or None where they fit."""
        if (self.height_px, self.width_px) != (stamp.height_px, stamp.width_px):
            return (
                f"This picture is {self.width_px} x {self.height_px} pixels, the run made {stamp.width_px} x "
                f"{stamp.height_px}. Connect the picture as the VAE decodes it, from before it is scaled, cropped or "
                "pasted into another."
            )
        if self.row > stamp.images:
            return f"There is no row {self.row}: the images of the run are numbered 1 … {stamp.images}. 0 takes all."
        if self.row and self.images not in (1, stamp.images):
            return (
                f"Row {self.row} was asked for and {_counted(self.images)} given. Connect one image, or all "
                f"{stamp.images} of the run."
            )
        if not self.row and self.images != stamp.images:
            return (
                f"{_counted(self.images)} given, the run made {stamp.images}. Connect all of them, or one, with row "
                f"set to its number in the run, 1 … {stamp.images}."
            )
        return None

    def wanted(self, pictures: Tensor) -> Tensor:
        """Return the pictures that are wanted, [B, H, W, C], of those that are given: with a row the one of that number."""
        has_row = len(pictures) > 1 and 0 < self.row <= len(pictures)
        return pictures[self.row - 1 : self.row] if has_row else pictures


def masks_of(source: PictureSource, given: BlendMasks | RunMasks) -> BlendMasks:
    """Return the masks of the run that made a picture.

    A run with the signature of a node that leads to the picture is its run, whatever ran in between. Of the nodes on several
    ways to it, as behind a switch, the one counts whose run fits by size and number. Runs that tell no signature, and all
    runs where the picture's lineage is not known, are found by these alone.

    Args:
        source: of the picture.
        given: the masks of one run, or of all runs of a model.

    Raises:
        UserInputError: none of them did, it is not kept any more, it cannot be told which did, or the pictures are not
            those of the run, by size or number.
    """
    if isinstance(given, BlendMasks) and not given.calls:
        return given
    runs = _runs_of(given)
    makers = _makers(source.lineage or (), runs)
    made = {maker.signature: _nearest(source, maker, same) for maker, same in makers if same}
    if made:
        fitting = [run for run in made.values() if source.misfit(run.stamp) is None]
        if len(fitting) > 1:
            raise UserInputError(
                f"Several samplers lead to this picture ({_names(fitting)}), and it cannot be told which of them made it. "
                "Connect the picture as the VAE decodes it from one of them."
            )
        return fitting[0] if fitting else _checked(source, next(iter(made.values())))
    if makers:
        raise UserInputError(NOT_KEPT)
    unknown = [run for run in runs if source.lineage is None or not _is_signed(run)]
    if not unknown:
        raise UserInputError(OTHER_RUN)
    fitting = [run for run in unknown if source.misfit(run.stamp) is None]
    if len({_origin(run).node for run in fitting if run.stamp.origin is not None}) > 1:
        raise UserInputError(
            f"Several nodes have sampled with this model ({_names(fitting)}), and it cannot be told which of them "
            "made this picture. Give each sampler an Apply DCI of its own, or take DCI Sampler."
        )
    return fitting[-1] if fitting else _checked(source, unknown[-1])


def remark_on_later_samplers(source: PictureSource, given: BlendMasks | RunMasks, found: BlendMasks) -> str | None:
    """Return that others have sampled between the run whose masks are shown and the picture, or None where none has.

    Behind a switch those on any of the ways to the run are told, since the way that was taken is not known.

    Args:
        source: of the picture.
        given: the masks of one run, or of all runs of a model.
        found: those of ``given`` that ``masks_of`` has chosen for the picture.
    """
    lineage, signature = source.lineage or (), _origin(found).signature
    makers = [maker for maker, _ in _makers(lineage, _runs_of(given))] or [each for each in lineage if each.has_model]
    made = [maker for maker in makers if signature in (None, maker.signature)]
    later = _between(lineage, {each.node for each in made}, {each.node for each in makers})
    if not later:
        return None
    told = ", ".join(each.label() for each in later)
    return f"These are the masks of {made[0].label()}. Sampled on since, with other masks or none: {told}."


def _between(lineage: Sequence[Ancestor], ends: Container[str], stops: Container[str]) -> list[Ancestor]:
    """Return the samplers between a picture and some nodes that lead to it, in their order.

    Args:
        lineage: of the picture.
        ends: the nodes.
        stops: nodes that no way leads past, ``ends`` among them.
    """
    nodes = {each.node: each for each in lineage}

    @cache
    def passed(name: str) -> frozenset[str] | None:
        if name in stops:
            return frozenset() if name in ends else None
        ways = [way for source in nodes[name].sources if (way := passed(source)) is not None]
        return frozenset((name,)).union(*ways) if ways else None

    between = (passed(lineage[0].node) if lineage else None) or ()
    return [each for each in reversed(lineage) if each.sampler and each.node in between]


def _runs_of(given: BlendMasks | RunMasks) -> tuple[BlendMasks, ...]:
    return (given,) if isinstance(given, BlendMasks) else given.runs


def _makers(lineage: Sequence[Ancestor], runs: Sequence[BlendMasks]) -> list[tuple[Ancestor, list[BlendMasks]]]:
    """Return the first node on each way up from the picture that sampled with the model, and the runs with its signature."""
    nodes = {each.node: each for each in lineage}
    are_signed = all(map(_is_signed, runs))
    found, waiting = [], [each.node for each in lineage[:1]]
    for name in waiting:
        same = [run for run in runs if _origin(run).signature == nodes[name].signature]
        if same or (nodes[name].has_model and are_signed):
            found.append((nodes[name], same))
        else:
            waiting += [source for source in nodes[name].sources if source not in waiting]
    return found


def _checked(source: PictureSource, run: BlendMasks) -> BlendMasks:
    misfit = source.misfit(run.stamp)
    if misfit is not None and run.calls:
        raise UserInputError(misfit)
    return run


def _nearest(source: PictureSource, ancestor: Ancestor, same: Sequence[BlendMasks]) -> BlendMasks:
    """Return the latest of the runs with equal inputs that is the likeliest by place, fit and node."""

    def likeness(run: BlendMasks) -> tuple[bool, bool]:
        return source.misfit(run.stamp) is None, _origin(run).node == ancestor.node

    places = {_origin(run).place for run in same}
    here = [run for run in same if _origin(run).place == source.place or places == {0}]
    if not here:
        raise UserInputError(NOT_KEPT)
    return max(reversed(here), key=likeness)


def _origin(run: BlendMasks) -> Origin:
    return run.stamp.origin or Origin("")


def _names(runs: Sequence[BlendMasks]) -> str:
    return ", ".join(sorted({_origin(run).node for run in runs if run.stamp.origin is not None}))


def _is_signed(run: BlendMasks) -> bool:
    return _origin(run).signature is not None


def _counted(images: int) -> str:
    return "1 image was" if images == 1 else f"{images} images were"
