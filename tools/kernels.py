"""Run a notebook in a fresh kernel: this interpreter, a fixed number of threads, no network, no user's settings."""

import os
import tempfile
import time
from pathlib import Path

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = ROOT / "tests" / "support" / "offline"
CELL_TIMEOUT = 300  # seconds: stops a cell that hangs; the longest takes half a minute on two quiet cores


class OwnKernel(AsyncKernelManager):
    """Starts one kernel only: the interpreter that runs this program, whatever is registered on the machine."""

    kernel_spec = KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def kernel_environment(threads: int, home: str) -> dict[str, str]:
    """Return the environment of a lesson's kernel: no progress bars, no network, no user's settings."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
    env = dict(os.environ, PYTHONPATH=path, TQDM_DISABLE="1", IPYTHONDIR=home, **dict.fromkeys(names, str(threads)))
    env["OMP_WAIT_POLICY"] = "PASSIVE"  # on a busy machine, threads that spin while they wait cost minutes
    for name in ("MPLBACKEND", "DIFFUSION_LIB_FRAMES"):  # what is stored holds every frame
        env.pop(name, None)
    return env


def run(
    notebook: NotebookNode,
    folder: Path,
    threads: int = 2,
    *,
    go_on: bool = False,
    settings: dict[str, str] | None = None,
) -> dict[str, float]:
    """Execute every cell in a fresh kernel whose working directory is `folder`; outputs land in `notebook`.

    Args: go_on, past a cell that raises; settings, more environment variables. Returns: each code cell's seconds, by
    its id.
    """
    seconds: dict[str, float] = {}

    def begin(cell: NotebookNode, cell_index: int) -> None:
        seconds[cell.id] = -time.perf_counter()

    def end(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        seconds[cell.id] += time.perf_counter()

    client = NotebookClient(
        notebook,
        kernel_manager_class=OwnKernel,
        extra_arguments=["--log-level=ERROR"],
        timeout=CELL_TIMEOUT,
        allow_errors=go_on,
        record_timing=False,
        store_widget_state=False,
        on_cell_execute=begin,
        on_cell_executed=end,
        resources={"metadata": {"path": str(folder)}},
    )
    with tempfile.TemporaryDirectory() as home:
        client.execute(env=kernel_environment(threads, home) | (settings or {}))
    return seconds
