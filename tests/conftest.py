"""Load the pack as ComfyUI does, and ComfyUI itself where a test needs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from workbench.pack import load_pack

TESTS = Path(__file__).resolve().parent
NEED_HOST = ("host", "nodes", "e2e", "browser", "study", "benchmarks", "demo_world", "workbench")
LONG = ("e2e", "browser", "study", "benchmarks", "demo_world")
CORE_ONLY = "--no-host"
QUICK = "--quick"
ON_GPU = "--gpu"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(CORE_ONLY, action="store_true", help="run only the tests that need no ComfyUI")
    parser.addoption(
        QUICK, action="store_true", help="leave out the server, the studies and benchmarks, and long sweeps"
    )
    parser.addoption(ON_GPU, action="store_true", help="let ComfyUI compute on the GPU; without it all is on the CPU")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sweep: many cases or much work of one kind; --quick leaves it out")
    only_hands_out_work = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if config.getoption(CORE_ONLY) or only_hands_out_work:
        return
    try:
        load_pack(cpu=not config.getoption(ON_GPU))
    except SystemExit as error:
        raise pytest.UsageError(f"{error} {CORE_ONLY} runs only the tests that need no ComfyUI.") from None
    import torch

    torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other
    if config.getoption(ON_GPU):
        _compute_as_on_the_cpu()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.parent != TESTS:
        return None
    needs_host = collection_path.name in NEED_HOST and config.getoption(CORE_ONLY)
    is_long = collection_path.name in LONG and config.getoption(QUICK)
    return True if needs_host or is_long else None


@pytest.hookimpl(optionalhook=True)  # only where xdist is installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of the one server in one process; all others are handed out one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class OneServer(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed where it is not installed
        def _split_scope(self, nodeid: str) -> str:
            servers = (part for part in ("e2e", "browser") if nodeid.startswith(f"{TESTS.name}/{part}/"))
            return next(servers, nodeid)

    return OneServer(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests of the server, for they take longest."""
    if config.getoption(QUICK):
        left_out = [item for item in items if item.get_closest_marker("sweep")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: TESTS / "e2e" not in item.path.parents)


def _compute_as_on_the_cpu() -> None:
    """Let a GPU give the same bits for the same work, and float32 its whole precision."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
