"""The explorer class, its frames and its registry, and every explorer of the course swept over its controls.

What baked controls say is compared by nbval, in the stored notebooks; what live ones say, here. After a deliberate
change of that:  PYTHONPATH=tests/support:tools python tests/test_explorer.py  stores the fingerprints anew.
"""

import base64
import io
import json
import re
import sys
from functools import cache
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import bleach
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from oracles import declared_explorers
from PIL import Image

from diffusion_lib.teaching import frames, registry
from diffusion_lib.teaching.explorer import MOST_BYTES, Control, Explorer, explorer, sweep
from diffusion_lib.teaching.style import label, new_figure, show_image

FINGERPRINTS = Path(__file__).with_name("fingerprints.json")
LESSONS = Path(__file__).resolve().parents[1] / "diffusion_lib" / "lessons"
SANITIZE = Path(__file__).with_name("support") / "nbval_sanitize.cfg"
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
T = Control("t", "time t", (0, 1, 2, 3, 4), 1, "t = {}")
WORD = Control("word", "word", ("one", "two"))
SIZE = Control("size", "size", (1.0, 2.5), form="{:.1f} units", kind="live")
OWN = Control("own", "your own image", kind="image")


def draw(t, word="one", size=1.0, own=None, inches=(1.5, 1.0)):
    if own == b"bad":
        raise ValueError("data: expected a PNG or JPEG image")
    figure = Figure(figsize=inches, dpi=80)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.bar([0, 1, 2], [t + 1, {"one": 1, "two": 4}[word], 3 * size if own is None else len(own)], color=(0, t / 4, 1))
    axes.set(ylim=(0, 10))
    return figure


def describe(t, word="one", size=1.0, own=None):
    return f'It\'s "{word}" & {t} < {size:.1f}, {"a ramp" if own is None else len(own)}.'


def show(t, **others):
    return draw(t, **others), describe(t, **others)


def small(*controls, show=show):
    return Explorer(show, controls)


@pytest.fixture(scope="module")
def full():
    return small(T, WORD, SIZE, OWN)


# ---- controls ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": ()}, "values: expected at least one value for control 'x', got none"),
        ({"values": (1, 2), "default": 3}, r"x: expected one of \[1, 2\], got 3"),
        ({"values": (1,), "kind": "lively"}, "kind: expected 'baked', 'live' or 'image', got 'lively'"),
    ],
)
def test_control_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Control("x", "a label", **arguments)


def test_control_default_and_ends():
    assert Control("x", "x", range(3)).default == 0
    assert Control("x", "x", (0, 5, 9), 5).ends() == [0, 5, 9]
    assert Control("x", "x", (0, 5, 9)).ends() == [0, 9]
    assert OWN.ends() == [None]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ((), "expected a baked control first"),
        ((SIZE, T), "expected a baked control first"),
        ((T, WORD, T), "expected each name once"),
        ((T, OWN, Control("other", "another", kind="image")), "at most one image"),
        ((Control("t", "t", range(51)), Control("size", "size", (1.0, 2.0, 3.0))), "at most 150 frames, got 153"),
    ],
)
def test_explorer_refuses_controls(controls, message):
    with pytest.raises(ValueError, match=message):
        small(*controls)


def test_explorer_refuses_too_many_bytes():
    def noisy(t):
        figure = Figure(figsize=(4, 4), dpi=80)
        figure.figimage(np.random.default_rng(t).random((320, 320)))
        return figure, "Noise."

    one = small(T, show=noisy)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"at most {MOST_BYTES} bytes of HTML, got"):
            one.html()


def test_explorer_refuses_frames_of_several_sizes():
    one = small(T, show=lambda t: (draw(t, inches=(1.5, 1 + t)), "Sizes."))
    with pytest.raises(ValueError, match=r"show: expected figures of one size, got \[\(80, 120\), \(160, 120\)"):
        one.html()


# ---- when frames are drawn


def counting(calls):
    """A `show` that counts its calls."""
    return lambda t, **others: (next(calls), show(t, **others))[1]


def test_nothing_is_drawn_before_an_explorer_is_shown_and_nothing_twice():
    calls = count()
    one = small(T, WORD, show=counting(calls))
    assert next(calls) == 0 and one.baked == {}
    first = one.html()
    assert next(calls) == 1 + 1 + len(T.values) * len(WORD.values)  # the first image, and each frame
    assert one.html() == first and repr(one) and one.spec is one.baked
    assert next(calls) == 13


def test_the_browser_has_the_frames_before_it_draws(monkeypatch):
    one, sent = small(T), []
    monkeypatch.setattr(one, "send_state", lambda key=None: sent.append(key))
    monkeypatch.setattr(Explorer.__base__, "_repr_mimebundle_", lambda self: (sent.append("view") or {}, {}))
    one._repr_mimebundle_()
    assert sent == ["baked", "view"] and one.get_state("baked")["baked"]["sheets"]


def test_the_frame_at_the_default_values_is_the_first_image():
    """In layout too: nothing moves when the page's script puts the frame in the image's place."""

    def constrained(t):
        figure = Figure(figsize=(3, 2), dpi=80, layout="constrained")
        left, right = figure.subplots(1, 2)
        left.set(aspect="equal", ylabel="label", title="long title" * t)
        right.plot([0, 1], [0, 10**t])
        return figure, "A figure."

    one = small(T, show=constrained)
    frame = frame_of(one.spec["sheets"][""], T.values.index(T.default), 160, 240)
    np.testing.assert_array_equal(frame, one._first[2])


def test_skipped_frames_are_made_and_not_drawn(monkeypatch, full):
    """What nbval compares, text by text, is what was stored."""
    whole, calls = full.html(), count()
    monkeypatch.setenv("DIFFUSION_LIB_FRAMES", "skip")
    one = small(T, WORD, SIZE, OWN, show=counting(calls))
    skipped = one.html()
    assert next(calls) == 11
    assert {block["sheet"] for block in one.spec["sheets"].values()} == {frames.NO_SHEET}
    assert Page(skipped).tags[1] == Page(whole).tags[1]  # the first image, its alt text
    assert skipped != whole and sanitized(skipped) == sanitized(whole)
    assert sanitized(whole.replace("2 &lt; 1.0", "2 &lt; 1.1")) != sanitized(whole)  # a frame's sentence is compared
    with pytest.raises(ValueError, match="show: expected figures of one size"):
        small(T, show=lambda t: (draw(t, inches=(1.5, 1 + t)), "Sizes.")).html()


def sanitized(text):
    """What nbval makes of a text before it compares it."""
    regex, word = re.search(r"^regex: (.*)\nreplace: (.*)$", SANITIZE.read_text("utf8"), re.M).groups()
    return re.sub(regex, word, text)


# ---- images ----


def pixels(uri):
    kind, data = re.fullmatch(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", uri).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == kind.upper()
    return np.asarray(image.convert("RGBA"))


def frame_of(block, k, height, width):
    """Lay cell k + 1 of a sheet over its first, as the page does."""
    sheet, across = pixels(block["sheet"]), int(np.ceil(np.sqrt(len(block["texts"]) + 1)))
    row, column = divmod(k + 1, across)
    cell = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return np.where(cell[..., 3:] > 0, cell, sheet[:height, :width])[..., :3]


def test_every_frame_of_every_sheet_is_the_figure_of_its_values(full):
    assert list(full.spec["sheets"]) == ["0,0,0", "1,0,0"]
    for word, block in zip(WORD.values, full.spec["sheets"].values(), strict=True):
        assert block["texts"] == [describe(t, word) for t in T.values]
        for k, t in enumerate(T.values):
            expected = frames.rasterise(draw(t, word))
            assert expected.shape == (80, 120, 3)
            np.testing.assert_array_equal(frame_of(block, k, 80, 120), expected)


def test_shades_are_kept_within_two_of_255():
    figure = Figure(figsize=(1, 1), dpi=80)
    figure.figimage(np.linspace(0, 1, 80)[None].repeat(80, 0), cmap="gray", vmin=0, vmax=1)
    shown = frames.rasterise(figure)[40, :, 0]
    assert np.abs(shown - np.linspace(0, 255, 80)).max() <= 3
    assert shown[0] == 0 and shown[-1] == 255


def test_a_readers_own_matplotlibrc_changes_no_pixel():
    def ramp():
        figure, (left, right) = new_figure(4, 2, columns=2)
        show_image(left, np.arange(12).reshape(3, 4) / 6 - 1, "ramp")
        right.plot([0, 1, 4])
        label(right, "x", "y", "curve")
        return frames.rasterise(figure)

    expected = ramp()
    own = {"image.origin": "lower", "axes.facecolor": "black", "figure.facecolor": "black", "text.color": "white"}
    own |= {"text.usetex": True, "lines.linewidth": 9, "font.family": "monospace", "axes.grid": True, "figure.dpi": 200}
    with matplotlib.rc_context(own):
        np.testing.assert_array_equal(ramp(), expected)


def test_axes_stand_still_from_frame_to_frame():
    def wide_label(t):
        figure = Figure(figsize=(2, 2), dpi=80, layout="constrained")
        figure.subplots().set(yticks=[0, 1], yticklabels=["0", "long " * t])
        return figure

    def spine(image):
        return int(np.argmax(image[40, :, 0] < 200))

    model = wide_label(2)
    place = spine(frames.rasterise(model))
    assert place > 50 > spine(frames.rasterise(wide_label(0)))
    assert [spine(image) for image in frames.rasterise_alike(map(wide_label, (2, 0)), model)] == [place, place]


def test_an_image_of_fixed_aspect_may_use_the_whole_of_its_axes_place():
    def picture(wide):
        figure = Figure(figsize=(2, 1), dpi=80, layout="constrained")
        figure.subplots().imshow(np.zeros((10, 20 if wide else 10)))
        return figure

    def width(image):
        return np.ptp(np.flatnonzero((image < 200).any((0, 2))))

    model = picture(wide=False)
    narrow = width(frames.rasterise(model))
    shown = [width(image) for image in frames.rasterise_alike([picture(wide=True), picture(wide=False)], model)]
    assert shown[0] > 1.3 * narrow and shown[1] == narrow


def test_the_background_is_each_pixels_usual_colour():
    usual = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    others = np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), np.uint8)
    np.testing.assert_array_equal(frames.background([others[0], usual, usual, others[1], usual]), usual)


@pytest.mark.parametrize("n", range(1, 10))
def test_a_sheet_has_a_cell_a_frame_one_for_the_background_and_no_empty_row(n):
    many = np.random.default_rng(n).integers(0, 256, (n, 4, 5, 3), np.uint8)
    packed = frames.pack(many)
    across = next(i for i in range(1, 5) if i * i >= n + 1)
    down = next(i for i in range(1, 5) if i * across >= n + 1)
    assert pixels(packed).shape == (4 * down, 5 * across, 4)
    block = {"sheet": packed, "texts": [""] * n}
    for k in range(n):
        np.testing.assert_array_equal(frame_of(block, k, 4, 5), many[k])


# ---- the kernel-free twin ----


class Page(HTMLParser):
    """Collects the start tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_twin_is_always_the_same_and_asks_nothing_of_the_network(full):
    text = full.html()
    assert text == small(T, WORD, SIZE, OWN).html()
    assert "http" not in text and " id=" not in text and "import" not in text
    figure, image = Page(text).tags[:2]
    assert json.loads(figure[1]["data-explorer"]) == full.spec
    assert image[0] == "img" and image[1]["alt"] == describe(1) == 'It\'s "one" & 1 < 1.0, a ramp.'


def test_first_image_is_the_default_frame(full):
    image = pixels(Page(full.html()).tags[1][1]["src"])[..., :3]
    assert np.abs(image.astype(int) - frames.rasterise(draw(1))).mean() < 1


def test_image_survives_where_scripts_and_styles_are_stripped(full):
    without_script = re.sub(r"<(script|style)\b.*?</\1>", "", full.html(), flags=re.S)
    safe = bleach.clean(
        without_script, tags={"img"}, attributes={"img": ["src", "alt"]}, protocols={"data"}, strip=True
    )
    ((tag, attributes),) = Page(safe).tags
    assert tag == "img" and attributes["alt"] == full.description() and pixels(attributes["src"]).shape == (80, 120, 4)
    assert "{" not in safe


def test_output_carries_the_widget_the_twin_and_a_text_without_addresses(full):
    data, _ = full._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert data["text/html"] == full.html()
    labels = "time t, word, size, your own image"
    assert data["text/plain"] == repr(full) == f'Explorer ({labels}). It\'s "one" & 1 < 1.0, a ramp.'


def test_browser_gets_no_formula(full):
    script = full.html().partition("<script>")[2]
    assert not re.search(r"Math\.(exp|log|pow|cos|sin|tan|random|PI|E)\b|\*\*", script)
    assert [control["texts"] for control in full.spec["controls"][:3]] == [
        ["t = 0", "t = 1", "t = 2", "t = 3", "t = 4"],
        ["one", "two"],
        ["1.0 units", "2.5 units"],
    ]


# ---- live ----


@pytest.fixture
def live():
    return small(T, WORD, SIZE, OWN)


def test_choosing_from_python(live):
    live.choose(t=3, word="two")
    assert live.values() == {"t": 3, "word": "two", "size": 1.0, "own": None}
    assert live.live == {}  # a baked frame needs no kernel
    with pytest.raises(ValueError, match=r"t: expected one of \[0, 1, 2, 3, 4\], got 7"):
        live.choose(t=7)
    with pytest.raises(ValueError, match=r"name: expected one of \['t', 'word', 'size', 'own'\], got 'T'"):
        live.value("T")


def test_live_control_draws_the_sheet_anew_the_present_frame_first(live):
    seen = []
    live.observe(lambda change: seen.append(change.new), "live")
    live.choose(t=3, size=2.5)
    first, whole = seen
    assert first["first"] == 3 and first["texts"] == [describe(3, size=2.5)]
    np.testing.assert_array_equal(frame_of(first, 0, 80, 120), frames.rasterise(draw(3, size=2.5)))
    assert whole["first"] == 0 and whole["key"] == "0,1,0" and len(whole["texts"]) == 5
    np.testing.assert_array_equal(frame_of(whole, 4, 80, 120), frames.rasterise(draw(4, size=2.5)))
    live.choose(t=4)
    assert len(seen) == 2  # another frame of the same sheet


def test_upload_arrives_from_the_browser_in_one_message(live):
    index = live.index | {"own": 1}
    live.set_state({"index": index, "upload": memoryview(b"four")})
    assert live.value("own") == b"four" and live.live["texts"][2] == 'It\'s "one" & 2 < 1.0, 4.'
    live.set_state({"index": index | {"own": 2}, "upload": memoryview(b"seven..")})
    assert live.live["texts"][0] == 'It\'s "one" & 0 < 1.0, 7.'
    live.choose(own=None)
    assert live.value("own") is None


def test_a_bad_upload_gives_a_message_and_the_next_one_works(live):
    live.choose(own=b"bad")
    assert live.live == {"key": "0,0,1", "message": "data: expected a PNG or JPEG image"}
    live.choose(own=b"good")
    assert live.live["texts"][0] == 'It\'s "one" & 0 < 1.0, 4.'


def test_every_image_from_python_is_drawn_anew(live):
    for own in (b"four", None, b"seven.."):
        live.choose(own=own)
    assert live.live["texts"][0].endswith(", 7.")


def test_any_other_exception_is_not_swallowed(live):
    live._show = lambda **values: 1 / 0
    with pytest.raises(ZeroDivisionError):
        live.choose(size=2.5)


def test_sweep_visits_ends_and_defaults(full):
    found = sweep(full)
    assert list(found) == [
        "t = 0",
        "t = 1",
        "t = 4",
        "word = one",
        "word = two",
        "size = 1.0",
        "size = 2.5",
        "own = None",
    ]
    assert found["t = 4"] == describe(4) and found["size = 2.5"] == describe(1, size=2.5)
    with pytest.raises(ZeroDivisionError):
        sweep(small(T, show=lambda t: (draw(t), 1 / (4 - t))))


# ---- the registry ----


def test_the_registry_holds_what_lessons_declare():
    found = [f"{factory.__module__}.{factory.__name__}" for factory in registry.explorers()]
    assert found == declared_explorers(LESSONS) and len(found) >= 22
    assert [registry.lesson_of(factory) for factory in registry.explorers()] == [name.split(".")[2] for name in found]


def test_a_new_lesson_is_found_without_being_listed(tmp_path, monkeypatch):
    for name, text in (("__init__", ""), ("explorers", ONE_EXPLORER)):
        (tmp_path / "newest").mkdir(exist_ok=True)
        (tmp_path / "newest" / f"{name}.py").write_text(text)
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    monkeypatch.setattr("diffusion_lib.lessons.__path__", [str(LESSONS), str(tmp_path)])
    found = [factory for factory in registry.explorers() if registry.lesson_of(factory) == "newest"]
    for name in ("diffusion_lib.lessons.newest", "diffusion_lib.lessons.newest.explorers"):
        monkeypatch.delitem(sys.modules, name)
    assert [factory() for factory in found] == ["an explorer", "another"]  # by name, and the functions themselves
    assert registry.is_explorer(found[0]) and not registry.is_explorer(registry.explorers)


ONE_EXPLORER = """
from diffusion_lib.teaching.explorer import explorer

@explorer
def second():
    return "another"

@explorer
def first():
    return "an explorer"
"""


def test_an_explorer_elsewhere_is_refused():
    with pytest.raises(ValueError, match=r"factory: expected one of diffusion_lib.lessons.<lesson>.explorers, got one"):
        explorer(made)


# ---- every explorer of the course ----


@cache
def made(factory):
    return factory()


def name_of(factory) -> str:
    return f"{registry.lesson_of(factory)}.{factory.__name__}"


each_explorer = pytest.mark.parametrize("factory", registry.explorers(), ids=name_of)


def parts(description):
    """Return the words of a description and its numbers."""
    numbers = [float(number.replace(",", "")) for number in NUMBER.findall(description)]
    return NUMBER.sub("#", description), numbers


@each_explorer
def test_sweep_of_every_control(factory, record_count):
    """Nothing raises, every sentence holds a number, and every control changes what is said."""
    swept = sweep(made(factory))
    assert all(parts(sentence)[1] for sentence in swept.values()), "a sentence holds no number"
    for control in made(factory).controls:
        said = {swept[f"{control.name} = {value}"] for value in control.ends()}
        assert len(said) > 1 or control.kind == "image", control.name
    record_count("controls swept", len(made(factory).controls))


@each_explorer
def test_every_explorer_is_legible(factory):
    figure = made(factory).figure()
    assert figure.dpi == 80
    small = [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_fontsize() < 9]
    assert not small, f"smaller than 9 points: {small}"
    assert figure.get_figwidth() * figure.dpi <= 800


def said_live() -> dict[str, dict[str, str]]:
    """Return {explorer: {"name = value": sentence}} of the live controls: no stored notebook shows their values."""
    found = {}
    for one, name in ((made(factory), name_of(factory)) for factory in registry.explorers()):
        if live := [control.name for control in one.controls if control.kind != "baked"]:
            found[name] = {place: text for place, text in sweep(one).items() if place.split(" = ")[0] in live}
    return found


def test_live_controls_say_what_they_said():
    found, stored = said_live(), json.loads(FINGERPRINTS.read_text("utf8"))
    assert found.keys() == stored.keys()
    for name, places in found.items():
        assert places.keys() == stored[name].keys(), name
        for place, sentence in places.items():
            (words, numbers), (expected_words, expected_numbers) = parts(sentence), parts(stored[name][place])
            assert words == expected_words, f"{name}, {place}"
            assert numbers == pytest.approx(expected_numbers, rel=5e-3, abs=0), f"{name}, {place}"


if __name__ == "__main__":
    FINGERPRINTS.write_text(json.dumps(said_live(), indent=1, ensure_ascii=False) + "\n", "utf8")
