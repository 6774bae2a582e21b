"""The one slider class of the course: live in JupyterLab, and the same cell's HTML where no kernel runs.

An explorer draws every frame in Python when it is first shown. What runs in the browser (explorer.js) only chooses the
frame, so no formula of the course is written twice. Where the environment says DIFFUSION_LIB_FRAMES=skip, `show` is
still called for every frame, but no frame is drawn; the image at the default values is, and every text stays.
"""

import html
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import anywidget
import numpy as np
import traitlets
from matplotlib.figure import Figure

from diffusion_lib.arguments import shown
from diffusion_lib.teaching import frames, registry

MOST_FRAMES = 150  # of one explorer, over all combinations of its baked controls
MOST_BYTES = 400_000  # of one explorer's stored HTML

BAKED, LIVE, IMAGE = "baked", "live", "image"

# A page may hold many explorers, and some viewers (VS Code) run copies of all scripts at the end of an output: each run
# takes the first figure beside it that is not drawn yet. `explorer` marks a figure by its class.
FIND_AND_DRAW = (
    'const undrawn = "figure[data-explorer]:not(.diffusion-explorer)";'
    "const root = (document.currentScript?.parentNode ?? document).querySelector(undrawn);"
    "if (root) explorer(root, JSON.parse(root.dataset.explorer), null);"
)


@dataclass(frozen=True)
class Control:
    """One row of an explorer: what it is called, the values it can take, and where it works.

    Args:
        name: the keyword under which `show` receives the value.
        label: what the reader sees, in words: "time t".
        values: all values, in order; numbers make a slider, words a list to choose from.
        default: one of `values`; the first one if not given.
        form: how a value is written beside its slider, as for str.format: "t = {}", "{:.2f}", "{} steps".
        kind: "baked" (drawn beforehand, works everywhere), "live" (drawn by the kernel when asked, greyed without one)
            or "image" (the reader's own, live too: its value is None or the bytes of an image file; no `values`).
    Raises: ValueError (no values, a default that is not among them, an unknown kind).
    """

    name: str
    label: str
    values: Sequence = ()
    default: object = None
    form: str = "{}"
    kind: str = BAKED

    def __post_init__(self) -> None:
        if self.kind not in (BAKED, LIVE, IMAGE):
            raise ValueError(f"kind: expected 'baked', 'live' or 'image', got {self.kind!r}")
        object.__setattr__(self, "values", (None,) if self.kind == IMAGE else tuple(self.values))
        if not self.values:
            raise ValueError(f"values: expected at least one value for control {self.name!r}, got none")
        if self.default is None:
            object.__setattr__(self, "default", self.values[0])
        self.place(self.default)

    def place(self, value: object) -> int:
        """Return the index of `value`; ValueError when the control cannot take it."""
        if value not in self.values:
            raise ValueError(f"{self.name}: expected one of {shown(list(self.values))}, got {shown(value)}")
        return self.values.index(value)

    def ends(self) -> list:
        """Return the first value, the default and the last, each once."""
        return list(dict.fromkeys([self.values[0], self.default, self.values[-1]]))

    def spec(self) -> dict:
        """Return what the browser needs to draw this row."""
        words = any(isinstance(value, str) for value in self.values)
        form = IMAGE if self.kind == IMAGE else "select" if words else "range"
        return {
            "name": self.name,
            "label": self.label,
            "texts": [] if form == IMAGE else [self.form.format(value) for value in self.values],
            "start": self.place(self.default),
            "form": form,
            "live": self.kind != BAKED,
        }


class Explorer(anywidget.AnyWidget):
    """Sliders over one drawing: frames along the first control, a sprite sheet for each choice of the other baked ones.

    Args:
        show: keyword values -> (matplotlib Figure, sentence), pure. The figure has one size for all values; the
            sentence says the numbers shown: it is the alt text, and what tests compare. A ValueError raised at a value
            of a live control is shown to the reader as a message.
        controls: the frame slider first, which must be baked.
    Raises: ValueError at once (more than 150 frames, no baked control first, a name twice) or when first shown (more
    than 400 kB, frames of several sizes).
    """

    _esm = "".join(Path(__file__).with_name(name).read_text("utf8") for name in ("explorer.js", "live.js"))
    baked = traitlets.Dict().tag(sync=True)  # `spec`, as soon as somebody has asked for it
    index = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    upload = traitlets.Bytes().tag(sync=True, echo_update=False, from_json=lambda view, _: bytes(view))

    def __init__(self, show: Callable[..., tuple[Figure, str]], controls: Sequence[Control]) -> None:
        _check(controls)
        self.controls, self._show = tuple(controls), show
        self._uploads = itertools.count(1)  # images chosen from Python; a browser's have far larger numbers
        super().__init__(index={c.name: c.place(c.default) for c in controls})
        self.on_msg(lambda _, content, __: self.send(content))  # the browser asks whether there is a kernel

    @property
    def spec(self) -> dict:
        """Return what the browser needs: sizes, controls and sheets of frames, drawn when first asked for.

        Raises: ValueError (frames of several sizes, too many bytes).
        """
        if not self.baked:
            self.baked = self._bake()
        return self.baked

    def defaults(self) -> dict:
        """Return the default value of every control by name."""
        return {control.name: control.default for control in self.controls}

    def values(self) -> dict:
        """Return the present value of every control by name."""
        return {control.name: self.value(control.name) for control in self.controls}

    def value(self, name: str) -> object:
        """Return the present value of one control; ValueError for an unknown name."""
        control = self._control(name)
        if control.kind == IMAGE:
            return self.upload if self.index[name] else None
        return control.values[self.index[name]]

    def choose(self, **values: object) -> None:
        """Set controls from Python, as a reader would; ValueError for a value that a control cannot take."""
        index = dict(self.index)
        for name, value in values.items():
            control = self._control(name)
            if control.kind == IMAGE and isinstance(value, bytes):
                self.upload, index[name] = value, next(self._uploads)
            else:
                index[name] = control.place(value)
        self.index = index

    def figure(self, **values: object) -> Figure:
        """Return the figure at `values`; controls not named stay at their defaults."""
        return self._show(**(self.defaults() | values))[0]

    def description(self, **values: object) -> str:
        """Return the sentence for `values`; controls not named stay at their defaults."""
        return self._show(**(self.defaults() | values))[1]

    def html(self) -> str:
        """Return the kernel-free twin: an image, and a script that puts controls above it; always the same text.

        Raises: ValueError (frames of several sizes, too many bytes).
        """
        return self._twin(self.spec)

    def __repr__(self) -> str:
        labels = ", ".join(control.label for control in self.controls)
        return f"Explorer ({labels}). {self._first[1]}"

    def _repr_mimebundle_(self, **kwargs: dict) -> tuple[dict, dict]:
        twin = self.html()  # before the view: the browser must have the frames when it draws
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return dict(data) | {"text/html": twin, "text/plain": repr(self)}, metadata

    @cached_property
    def _first(self) -> tuple[Figure, str, np.ndarray]:
        """Figure, sentence and pixels at the default values; every other frame takes this figure's layout."""
        figure, sentence = self._show(**self.defaults())
        return figure, sentence, frames.rasterise(figure)

    def _bake(self) -> dict:
        height, width = frames.size(self._first[0])
        along = range(len(self.controls[0].values))
        sheets = {key: self._block(chosen, along) for key, chosen in self._ahead().items()}
        spec = {"width": width, "height": height, "controls": [c.spec() for c in self.controls], "sheets": sheets}
        if (count := len(self._twin(spec).encode())) > MOST_BYTES:
            raise ValueError(f"controls: expected at most {MOST_BYTES} bytes of HTML, got {count}")
        return spec

    def _twin(self, spec: dict) -> str:
        written = html.escape(json.dumps(spec, ensure_ascii=False, separators=(",", ":")), quote=False)
        written = written.replace("'", "&#39;")
        return (
            f"<figure data-explorer='{written}'>"
            f'<img src="{frames.still(self._first[2])}" alt="{html.escape(self._first[1])}">'
            "<figcaption>This image has controls: run the cell to use them.</figcaption></figure>"
            f"<script>(() => {{{_core()}{FIND_AND_DRAW}}})()</script>"
        )

    def _control(self, name: str) -> Control:
        for control in self.controls:
            if control.name == name:
                return control
        raise ValueError(f"name: expected one of {[control.name for control in self.controls]}, got {name!r}")

    def _ahead(self) -> dict[str, dict]:
        """The values of all controls but the first, by key, for each sheet that is drawn beforehand."""
        others, found = self.controls[1:], {}
        for values in itertools.product(*(c.values if c.kind == BAKED else [c.default] for c in others)):
            places = {c.name: c.place(value) for c, value in zip(others, values, strict=True)}
            found[self._key(places)] = dict(zip(places, values, strict=True))
        return found

    def _block(self, chosen: Mapping, places: Sequence[int]) -> dict:
        frame = self.controls[0]
        shown = [self._show(**(dict(chosen) | {frame.name: frame.values[k]})) for k in places]
        sheet = frames.sheet([figure for figure, _ in shown], self._first[0])
        return {"first": places[0], "sheet": sheet, "texts": [sentence for _, sentence in shown]}

    def _key(self, index: Mapping) -> str:
        return ",".join(str(index[control.name]) for control in self.controls[1:])

    @traitlets.observe("index")
    def _answer(self, _change: object) -> None:
        key, frame = self._key(self.index), self.controls[0].name
        if key in self._ahead() or key == self.live.get("key"):
            return
        chosen = self.values()
        try:  # the frame that the reader looks at goes ahead of the sheet of all frames
            for places in ([self.index[frame]], range(len(self.controls[0].values))):
                self.live = self._block(chosen, places) | {"key": key}
        except ValueError as error:
            self.live = {"key": key, "message": str(error)}


Factory = TypeVar("Factory", bound=Callable[..., Explorer])


def explorer(factory: Factory) -> Factory:
    """Register a function that returns an Explorer when called without arguments, and return it as it is.

    Its lesson is the folder of its module. Raises: ValueError (not in diffusion_lib/lessons/<lesson>/explorers.py).
    """
    registry.register(factory)
    return factory


def sweep(one: Explorer) -> dict[str, str]:
    """Return {"name = value": sentence}, each control at its first, default and last value, the others at default.

    `show` makes its figure each time; whatever it raises comes through.
    """
    places = [(control.name, value) for control in one.controls for value in control.ends()]
    return {f"{name} = {value}": one.description(**{name: value}) for name, value in places}


def _check(controls: Sequence[Control]) -> None:
    names = [control.name for control in controls]
    if not controls or controls[0].kind != BAKED:
        raise ValueError(f"controls: expected a baked control first, the frame slider, got {names}")
    if len(set(names)) < len(names):
        raise ValueError(f"controls: expected each name once, got {names}")
    if sum(control.kind == IMAGE for control in controls) > 1:
        raise ValueError(f"controls: expected at most one image control, got {names}")
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
