"""The pool on disk belongs to what drew it, and so do the checkpoints that learned from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from demo_world import pool as pool_module
from demo_world import sprites
from demo_world.commands import draw_pool, train_judge
from demo_world.judge import Judge
from demo_world.pool import Pool, chunk_path, drawings_hash, load_pool_checkpoint, open_pool, save_chunk
from demo_world.scenes import Scene
from demo_world.storage import CACHE_VARIABLE, load_checkpoint, save_checkpoint


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def small_pool() -> Pool:
    scenes = [Scene("panda"), Scene("guitar", companion="bear")]
    return Pool(torch.zeros(2, 3, 128, 128).byte(), torch.zeros(2, 2, 16, 16).byte(), scenes)


def test_a_changed_world_never_meets_old_drawings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_chunk(chunk_path(0), small_pool())
    assert open_pool().scenes == small_pool().scenes
    source = cache / "painter.py"
    source.write_text("GREEN = 1\n", encoding="utf-8")
    monkeypatch.setattr(pool_module, "_SOURCES", (SimpleNamespace(__file__=str(source)),))
    with pytest.raises(FileNotFoundError, match="draw_pool"):
        open_pool()


def test_the_name_of_a_pool_depends_on_all_that_draws(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = {module.__name__.removeprefix("demo_world.") for module in pool_module._SOURCES}
    assert watched == {"placement", "renderer", "scenes", "sprites", "styles", "vocabulary"}
    found = [drawings_hash(), drawings_hash()]
    archive = cache / "sprites.zip"
    archive.write_bytes(b"others")
    with monkeypatch.context() as changed:
        changed.setattr(sprites, "ARCHIVE", archive)
        found.append(drawings_hash())
    with monkeypatch.context() as changed:
        changed.setattr(pool_module, "painters_hash", lambda: "others")
        found.append(drawings_hash())
    with monkeypatch.context() as changed:
        changed.setattr(pool_module, "POOL_SEED", 1)
        found.append(drawings_hash())
    assert found[0] == found[1] and len(set(found)) == 4


@pytest.mark.parametrize("state", [{}, {"drawings": "another"}])
def test_a_checkpoint_of_another_world_is_refused(state: dict[str, str], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "judge.pt", state)
    with pytest.raises(ValueError, match="of another world .*--restart"):
        load_pool_checkpoint(tmp_path / "judge.pt", "this")
    save_checkpoint(tmp_path / "judge.pt", {"drawings": "this"})
    assert load_pool_checkpoint(tmp_path / "judge.pt", "this") == {"drawings": "this"}


def test_the_judge_goes_on_only_in_its_world(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_chunk(chunk_path(0), small_pool())
    monkeypatch.setattr(train_judge, "Renderer", lambda device: None)
    monkeypatch.setattr(train_judge, "measure", lambda judge, renderer, scenes: "")

    def train(steps: int) -> None:
        monkeypatch.setattr("sys.argv", ["train_judge", "--steps", str(steps), "--batch", "2"])
        train_judge.main()

    train(1)
    train(2)
    state = load_checkpoint(cache / train_judge.CHECKPOINT)
    assert (
        state["step"] == 2 and state["drawings"] == drawings_hash() and set(state["model"]) == set(Judge().state_dict())
    )
    monkeypatch.setattr(train_judge, "drawings_hash", lambda: "another")
    with pytest.raises(ValueError, match="--restart"):
        train(3)


def test_no_renderer_is_made_where_all_is_drawn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_chunk(chunk_path(0), small_pool())
    monkeypatch.setattr(draw_pool, "Renderer", None)
    monkeypatch.setattr("sys.argv", ["draw_pool", "--count", "7"])
    draw_pool.main()
    assert [path.name for path in chunk_path(0).parent.iterdir()] == ["drawings_000.safetensors"]
