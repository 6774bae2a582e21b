"""What a Jupyter server loads with this package: a hook that saves explorers as they are stored in the course's files.

The view of a live explorer is worth nothing without the kernel that drew it: opened again the next day, JupyterLab
would show "Error displaying widget: model not found" in its place. So each notebook is saved without it wherever the
kernel-free twin stands beside it. The page that is open keeps its live explorer.

A wheel tells the server of its environment to load this; for an editable install,
`python -m diffusion_lib.teaching.server` does.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
TWIN = "data-explorer="  # what marks the HTML of an explorer


def drop_views(model: dict[str, Any], path: str = "", contents_manager: object = None) -> None:
    """Take, in place, the widget view out of every output of a notebook's model that holds an explorer's twin.

    A pre-save hook of Jupyter's contents manager; any other file passes through.
    """
    for data in _data_of_outputs(model):
        if VIEW in data and TWIN in "".join(data.get("text/html", "")):
            del data[VIEW]


def enable(prefix: Path) -> Path:
    """Tell the Jupyter servers of the environment at `prefix` to load this module; return the file that says so."""
    folder = prefix / "etc" / "jupyter" / "jupyter_server_config.d"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(Path(__file__).with_name("diffusion_lib.json"), folder))


def _data_of_outputs(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    for cell in model["content"].get("cells", []):
        yield from (output["data"] for output in cell.get("outputs", []) if "data" in output)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "diffusion_lib.teaching.server"}]


def _load_jupyter_server_extension(app: Any) -> None:
    app.contents_manager.register_pre_save_hook(drop_views)


if __name__ == "__main__":
    print(enable(Path(sys.prefix)))
