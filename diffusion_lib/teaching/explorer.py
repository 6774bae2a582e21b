"""The one slider class of the course: live in JupyterLab, and the same cell's HTML where no kernel runs.

An explorer is drawn in Python beforehand, every frame of it. What runs in the browser (explorer.js) only chooses the
frame, so no formula of the course is written twice.
"""

import html
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anywidget
import traitlets
from matplotlib.figure import Figure

from diffusion_lib.teaching.widgets import frames

MOST_FRAMES = 150  # of one explorer, over all combinations of its baked controls
MOST_BYTES = 400_000  # of one explorer's stored HTML

BAKED, LIVE, PICTURE = "baked", "live", "picture"


@dataclass(frozen=True)
class Control:
    """One row of an explorer: what it is called, the values it can take, and where it works.

    Args:
        name: the keyword under which `draw` and `describe` receive the value.
        label: what the reader sees, in words: "time t".
        values: all values, in order; numbers make a slider, words a list to choose from.
        default: one of `values`; the first one if not given.
        form: how a value is written beside its slider, as for str.format: "t = {}", "{:.2f}", "{} steps".
        kind: "baked" (drawn beforehand, works everywhere), "live" (drawn by the kernel when asked, greyed without one)
            or "picture" (the reader's own PNG or JPEG, live too: its value is None or the file's bytes; no `values`).
    Raises: ValueError (no values, a default that is not among them, an unknown kind).
    """

    name: str
    label: str
    values: Sequence = ()
    default: object = None
    form: str = "{}"
    kind: str = BAKED

    def __post_init__(self) -> None:
        if self.kind not in (BAKED, LIVE, PICTURE):
            raise ValueError(f"kind: expected 'baked', 'live' or 'picture', got {self.kind!r}")
        object.__setattr__(self, "values", (None,) if self.kind == PICTURE else tuple(self.values))
        if not self.values:
            raise ValueError(f"values: expected at least one value for control {self.name!r}, got none")
        if self.default is None:
            object.__setattr__(self, "default", self.values[0])
        self.place(self.default)

    def place(self, value: object) -> int:
        """Return the index of `value`; ValueError when the control cannot take it."""
        if value not in self.values:
            raise ValueError(f"{self.name}: expected one of {list(self.values)}, got {value!r}")
        return self.values.index(value)

    def ends(self) -> list:
        """Return the first value, the default and the last, each once."""
        return list(dict.fromkeys([self.values[0], self.default, self.values[-1]]))

    def spec(self) -> dict:
        """Return what the browser needs to draw this row."""
        words = any(isinstance(value, str) for value in self.values)
        form = PICTURE if self.kind == PICTURE else "select" if words else "range"
        return {
            "name": self.name,
            "label": self.label,
            "texts": [] if form == PICTURE else [self.form.format(value) for value in self.values],
            "start": self.place(self.default),
            "form": form,
            "live": self.kind != BAKED,
        }


class Explorer(anywidget.AnyWidget):
    """Sliders over one drawing: frames along the first control, a sprite sheet for each choice of the other baked ones.

    Args:
        draw: keyword values -> matplotlib Figure, pure, of one size for all values. A ValueError that it raises at a
            value of a live control is shown to the reader as a message.
        describe: keyword values -> one sentence with the numbers shown: the alt text, and what tests compare.
        controls: the frame slider first, which must be baked.
    Raises: ValueError (more than 150 frames or 400 kB, frames of several sizes, no baked control first, a name twice).
    """

    _esm = "".join(Path(__file__).with_name(name).read_text("utf8") for name in ("explorer.js", "live.js"))
    spec = traitlets.Dict().tag(sync=True)
    index = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    upload = traitlets.Bytes().tag(sync=True, echo_update=False, from_json=lambda view, _: bytes(view))

    def __init__(self, draw: Callable[..., Figure], describe: Callable[..., str], controls: Sequence[Control]) -> None:
        _check(controls)
        self.controls, self._draw, self._describe = tuple(controls), draw, describe
        self._uploads = itertools.count(1)  # pictures chosen from Python; a browser's have far larger numbers
        self._model = draw(**self.defaults())
        self._still = frames.still(frames.rasterise(self._model))
        height, width = frames.rasterise(self._model).shape[:2]
        sheets = dict(self._sheets())
        spec = {"width": width, "height": height, "controls": [c.spec() for c in controls], "sheets": sheets}
        super().__init__(spec=spec, index={c.name: c.place(c.default) for c in controls})
        if len(self.html().encode()) > MOST_BYTES:
            raise ValueError(f"controls: expected at most {MOST_BYTES} bytes of HTML, got {len(self.html().encode())}")

    def defaults(self) -> dict:
        """Return the default value of every control by name."""
        return {control.name: control.default for control in self.controls}

    def values(self) -> dict:
        """Return the present value of every control by name."""
        return {control.name: self.value(control.name) for control in self.controls}

    def value(self, name: str) -> object:
        """Return the present value of one control; ValueError for an unknown name."""
        control = self._control(name)
        if control.kind == PICTURE:
            return self.upload if self.index[name] else None
        return control.values[self.index[name]]

    def choose(self, **values: object) -> None:
        """Set controls from Python, as a reader would; ValueError for a value that a control cannot take."""
        index = dict(self.index)
        for name, value in values.items():
            control = self._control(name)
            if control.kind == PICTURE and value is not None:
                self.upload, index[name] = value, next(self._uploads)
            else:
                index[name] = control.place(value)
        self.index = index

    def figure(self, **values: object) -> Figure:
        """Return the figure at `values`; controls not named stay at their defaults."""
        return self._draw(**(self.defaults() | values))

    def description(self, **values: object) -> str:
        """Return the sentence for `values`; controls not named stay at their defaults."""
        return self._describe(**(self.defaults() | values))

    def html(self) -> str:
        """Return the kernel-free twin: a picture, and a script that puts controls above it; always the same text."""
        spec = html.escape(json.dumps(self.spec, ensure_ascii=False, separators=(",", ":")), quote=False)
        spec = spec.replace("'", "&#39;")
        return (
            f"<figure data-explorer='{spec}'>"
            f'<img src="{self._still}" alt="{html.escape(self.description())}">'
            "<figcaption>This picture has controls: run the cell to use them.</figcaption></figure>"
            f"<script>(() => {{{_core()}"
            "const root = document.currentScript.previousElementSibling;"
            "explorer(root, JSON.parse(root.dataset.explorer), null);})()</script>"
        )

    def __repr__(self) -> str:
        labels = ", ".join(control.label for control in self.controls)
        return f"Explorer ({labels}). {self.description()}"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return dict(data) | {"text/html": self.html(), "text/plain": repr(self)}, metadata

    def _control(self, name: str) -> Control:
        for control in self.controls:
            if control.name == name:
                return control
        raise ValueError(f"name: expected one of {[control.name for control in self.controls]}, got {name!r}")

    def _sheets(self) -> Iterator[tuple[str, dict]]:
        others = self.controls[1:]
        choices = [control.values if control.kind == BAKED else [control.default] for control in others]
        for values in itertools.product(*choices):
            places = {control.name: control.place(value) for control, value in zip(others, values, strict=True)}
            chosen = dict(zip(places, values, strict=True))
            yield self._key(places), self._block(chosen, range(len(self.controls[0].values)))

    def _block(self, chosen: Mapping, places: Sequence[int]) -> dict:
        frame = self.controls[0]
        along = [dict(chosen) | {frame.name: frame.values[k]} for k in places]
        pictures = frames.rasterise_alike((self.figure(**values) for values in along), self._model)
        return {
            "first": places[0],
            "sheet": frames.sheet(pictures),
            "texts": [self.description(**values) for values in along],
        }

    def _key(self, index: Mapping) -> str:
        return ",".join(str(index[control.name]) for control in self.controls[1:])

    @traitlets.observe("index")
    def _answer(self, _change) -> None:
        key, frame = self._key(self.index), self.controls[0].name
        if key in self.spec["sheets"] or key == self.live.get("key"):
            return
        chosen = self.values()
        try:  # the frame that the reader looks at goes ahead of the sheet of all frames
            for places in ([self.index[frame]], range(len(self.controls[0].values))):
                self.live = self._block(chosen, places) | {"key": key}
        except ValueError as error:
            self.live = {"key": key, "message": str(error)}


def sweep(explorer: Explorer) -> dict[str, str]:
    """Return {"name = value": description}, each control at its first, default and last value, the others at default.

    The figure is drawn every time; whatever `draw` or `describe` raises comes through.
    """
    found = {}
    for control in explorer.controls:
        for value in control.ends():
            explorer.figure(**{control.name: value})
            found[f"{control.name} = {value}"] = explorer.description(**{control.name: value})
    return found


def _check(controls: Sequence[Control]) -> None:
    names = [control.name for control in controls]
    if not controls or controls[0].kind != BAKED:
        raise ValueError(f"controls: expected a baked control first, the frame slider, got {names}")
    if len(set(names)) < len(names):
        raise ValueError(f"controls: expected each name once, got {names}")
    if sum(control.kind == PICTURE for control in controls) > 1:
        raise ValueError(f"controls: expected at most one picture control, got {names}")
    count = 1
    for control in controls:
        count *= len(control.values) if control.kind == BAKED else 1
    if count > MOST_FRAMES:
        raise ValueError(f"controls: expected at most {MOST_FRAMES} frames, got {count}")


@cache
def _core() -> str:
    """explorer.js without its comment lines and indentation, to be written into a page."""
    text = Path(__file__).with_name("explorer.js").read_text("utf8")
    return re.sub(r"^\s*(//[^\n]*\n)*\s*", "", text, flags=re.M)
