"""The trainings of the demo model: objective, rates, checkpoints, and the ring of drawings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from demo_world import latents as latents_module
from demo_world import training as training_module
from demo_world.commands.train_model import EMBEDDING_RATE, parameter_groups, training_loss
from demo_world.denoiser import LATENT_SHAPE
from demo_world.latents import Batch, LatentRing
from demo_world.model import DemoModel
from demo_world.objective import cell_weights, draw_timesteps, timestep_shares
from demo_world.placement import PICTURE_PX
from demo_world.pretrain_text import pretrain_text
from demo_world.renderer import Drawing
from demo_world.scenes import Scene, Shares
from demo_world.schedule import fall, rise, warmup_stable_decay
from demo_world.text_encoder import TextEncoder
from demo_world.tokens import LENGTH, tokenize
from demo_world.training import Pace, Training, update_average

LOG = logging.getLogger("test_training")
PACE = Pace(seconds=100.0, rate=0.1, warmup=1, decay_share=0.5, average_decay=0.5)


@dataclass
class Clock:
    """Stands in for the time of day."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training_module.time, "monotonic", clock)
    return clock


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
    assert torch.isclose(late[0, 0, 0] / late[0, 1, 1], torch.tensor(3.0), rtol=1e-2)
    assert early[0, 0, 0] / early[0, 1, 1] < 1.05


def test_the_learning_rate_rises_stays_and_falls() -> None:
    assert np.allclose([rise(step, 4) for step in (0, 1, 3, 9)], [0.25, 0.5, 1.0, 1.0])
    assert np.allclose([fall(done, 0.4) for done in (0.0, 0.6, 0.8, 1.0, 1.2)], [1.0, 1.0, 0.5, 0.02, 0.02])
    shares = [warmup_stable_decay(step, 100, warmup=10) for step in (0, 9, 50, 85, 99)]
    assert np.allclose(shares, [0.1, 1.0, 1.0, 0.5, 1 / 30])


def test_the_average_follows_fast_at_first() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(11.0)
    average = {"weight": torch.zeros(1, 1)}
    update_average(average, model, 1, 0.99)
    assert torch.isclose(average["weight"], torch.tensor(9.0))  # decay 2 / 11
    update_average(average, model, 10_000, 0.5)
    assert torch.isclose(average["weight"], torch.tensor(10.0))


def make_training(checkpoint: Path, origin: str = "here", value: float = 1.0) -> tuple[torch.nn.Linear, Training]:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    groups: list[dict[str, object]] = [{"params": list(model.parameters()), "rate": 0.5, "weight_decay": 0.0}]
    return model, Training(model, groups, PACE, checkpoint, origin, LOG)


def test_steps_are_as_long_as_the_time_says(tmp_path: Path, clock: Clock) -> None:
    """Adam's first step is as long as its rate, whatever the gradient, and so are all while it stays the same."""
    model, training = make_training(tmp_path / "t.pt", value=10.0)
    places = []
    for seconds in (
        0.0,
        50.0,
        25.0,
    ):  # half of the time is over before the second step, three quarters before the third
        clock.now += seconds
        training.learn(1e6 * model.weight.sum())
        places.append(model.weight.item())
    assert training.step == 3 and training.done == 0.75
    assert np.allclose(np.diff([10.0, *places]), [-0.05, -0.05, -0.025], rtol=1e-4)


def test_a_training_goes_on_where_it_stopped(tmp_path: Path, clock: Clock) -> None:
    def learn(model: torch.nn.Linear, training: Training, steps: int) -> None:
        for _ in range(steps):
            clock.now += 5.0
            training.learn((model.weight - 3.0).square().sum())

    model, training = make_training(tmp_path / "whole.pt")
    learn(model, training, 8)
    training.finish()
    expected = model.weight.item()

    first, interrupted = make_training(tmp_path / "t.pt")
    learn(first, interrupted, 3)
    last = first.weight.item()
    interrupted.finish()
    assert first.weight.item() != last  # now the average
    clock.now += 3600.0
    second, resumed = make_training(tmp_path / "t.pt", value=-7.0)
    resumed.resume()
    assert resumed.step == 3 and resumed.spent == 15.0 and second.weight.item() == last
    learn(second, resumed, 5)
    resumed.finish()
    assert resumed.step == 8 and second.weight.item() == pytest.approx(expected, abs=1e-6)


def test_checkpoints_are_written_while_it_goes(tmp_path: Path, clock: Clock) -> None:
    model, training = make_training(file := tmp_path / "t.pt")
    training.learn(model.weight.sum())
    assert not file.exists()
    clock.now += training_module.CHECKPOINT_SECONDS + 1
    training.learn(model.weight.sum())
    assert file.exists()


def test_the_log_tells_the_mean_loss(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model, training = make_training(tmp_path / "t.pt")
    for loss in (1.0, 4.0):
        clock.now += 0.6 * training_module.LOG_SECONDS
        training.learn(model.weight.sum() * 0.0 + loss)
    assert caplog.messages == ["step 2: loss 2.5000, rate 1.0e-01, 12.000 s a step, 24 % of the time"]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    _, training = make_training(tmp_path / "t.pt", "the moon")
    training.finish()
    with pytest.raises(ValueError, match="from the moon, not from here.*--restart"):
        make_training(tmp_path / "t.pt")[1].resume()


class Painter:
    """Draws the number of the drawing as a grey of the picture; the left half is the main object, below it a companion."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.drawn = 0
        self.scenes: list[Scene] = []

    def draw(self, scenes: list[Scene], generator: torch.Generator) -> Drawing:
        numbers = torch.arange(self.drawn, self.drawn + len(scenes)) / 1000
        self.drawn += len(scenes)
        self.scenes += scenes
        grey = numbers[:, None, None, None].expand(-1, 3, PICTURE_PX, PICTURE_PX)
        main, companion = torch.zeros(2, len(scenes), PICTURE_PX, PICTURE_PX)
        main[:, : PICTURE_PX // 2, : PICTURE_PX // 2] = 1.0
        companion[:, PICTURE_PX // 2 :, : PICTURE_PX // 2] = 1.0
        return Drawing(grey, main, companion)


def encode_grey(autoencoder: None, pictures: Tensor) -> Tensor:
    return pictures.mean(dim=(1, 2, 3))[:, None, None, None].expand(-1, *LATENT_SHAPE)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> tuple[LatentRing, Painter]:
    monkeypatch.setattr(latents_module, "encode_pictures", encode_grey)
    painter = Painter()
    return LatentRing(painter, None, 20, Shares(companion=1.0), seed=0), painter  # type: ignore[arg-type]


def numbers_in(ring: LatentRing) -> set[int]:
    batch = ring.batch(400, torch.Generator().manual_seed(0))
    return {round(1000 * float(value)) for value in batch.latents[:, 0, 0, 0]}


def test_the_oldest_drawings_are_drawn_anew_as_they_are_owed(ring: tuple[LatentRing, Painter]) -> None:
    drawings, painter = ring
    assert len(drawings) == 20 and numbers_in(drawings) == set(range(20))
    for _ in range(3):
        drawings.renew(2.5)
    assert painter.drawn == 20  # the renderer draws eight at once
    drawings.renew(0.5)
    assert numbers_in(drawings) == set(range(8, 28))
    drawings.renew(17.0)
    assert numbers_in(drawings) == set(range(24, 44))


def test_a_batch_holds_what_was_drawn(ring: tuple[LatentRing, Painter]) -> None:
    drawings, painter = ring
    assert all(scene.companion for scene in painter.scenes)
    batch = drawings.batch(6, torch.Generator().manual_seed(3))
    assert batch.latents.shape == (6, *LATENT_SHAPE) and batch.latents.dtype == torch.float32
    assert batch.coverage.shape == (6, 32, 32) and batch.tokens.shape == (6, LENGTH)
    assert (batch.coverage[:, :, :16] == 255).all() and (batch.coverage[:, :, 16:] == 0).all()
    for latents, tokens in zip(batch.latents, batch.tokens):
        scene = painter.scenes[round(1000 * float(latents[0, 0, 0]))]
        known = [tokenize([text])[0] for text in latents_module.caption_variants(scene)]
        assert any(torch.equal(tokens, each) for each in known)


def test_the_loss_of_a_new_model_is_that_of_unit_noise() -> None:
    torch.manual_seed(0)
    model = DemoModel()
    tokens = tokenize(["a cat on grass"]).expand(4, -1)
    batch = Batch(torch.randn(4, *LATENT_SHAPE), torch.randint(0, 255, (4, 32, 32), dtype=torch.uint8), tokens)
    losses = [training_loss(model, batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert float(losses[0].detach()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_every_weight_is_trained_once_and_words_slowly() -> None:
    model = DemoModel()
    groups = parameter_groups(model)
    found = [parameter for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert len(found) == len(trained) and {id(p) for p in found} == {id(p) for p in trained.values()}
    assert "text_encoder.text_projection.weight" not in trained
    words = [name for name, value in trained.items() if any(value is p for p in groups[2]["params"])]  # type: ignore[attr-defined]
    assert words == [f"text_encoder.text_model.embeddings.{kind}_embedding.weight" for kind in ("token", "position")]
    assert [group["rate"] for group in groups] == [1.0, 1.0, EMBEDDING_RATE]


def test_the_warm_start_teaches_the_text_encoder_words() -> None:
    torch.manual_seed(0)
    before = pretrain_text(TextEncoder(), LOG, steps=1, batch=16)
    torch.manual_seed(0)
    assert pretrain_text(TextEncoder(), LOG, steps=40, batch=16) > before + 0.3
