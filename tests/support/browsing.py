"""Drives JupyterLab or an exported page in a real Chromium: what the browser tests and benchmarks/slider.py share."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import course
import nbformat
from playwright.sync_api import Browser, Locator, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
VIEW = {"width": 1280, "height": 2400}  # tall: JupyterLab takes cells that are off the screen out of the page
NARROW = 823  # pixels that JupyterLab, its file list open, leaves to a lesson's text in a window 1280 wide
SECOND = 1000  # of milliseconds, playwright's unit
SCROLLER = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"  # what scrolls in an open notebook


class Lab(NamedTuple):
    """A running server: its address, its token, the folder it serves, and the environment it was started in."""

    url: str
    token: str
    root: Path
    env: dict[str, str]


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Serve `folder`/root in a JupyterLab that shares no settings with the user's; it ends with the block."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    config = folder / "config" / "labconfig"
    config.mkdir(parents=True)
    news = "@jupyterlab/apputils-extension:announcements"  # its pop-up would cover the page
    (config / "page_config.json").write_text(f'{{"disabledExtensions": {{"{news}": true}}}}')
    token, port = secrets.token_hex(16), free_port()
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    places |= {"IPYTHONDIR": "ipython", "JUPYTERLAB_WORKSPACES_DIR": "spaces", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    env = dict(os.environ, TQDM_DISABLE="1", **{name: str(folder / place) for name, place in places.items()})
    arguments = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--port-retries=0"]
    arguments += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
    arguments += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
    with (folder / "lab.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *arguments]
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_server(process, f"{url}/api/status?token={token}", folder / "lab.log")
        yield Lab(url, token, root, env)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_server(process: subprocess.Popen, url: str, log: Path) -> None:
    """Return once `url` answers; RuntimeError with the log when the server ends or stays silent for 60 s."""
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")


@contextmanager
def running_browser(chromium: str) -> Iterator[Browser]:
    """Start the browser whose binary is `chromium`, without a window."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def place(lab: Lab, notebook: Path) -> str:
    """Put a copy of a notebook into the folder that the server shows, and return its name there."""
    (lab.root / notebook.name).write_bytes(notebook.read_bytes())
    return notebook.name


def trust(lab: Lab, *names: str) -> None:
    """Do what `make lab` does before it starts: sign notebooks, so that their stored outputs may run scripts."""
    command = [sys.executable, "-m", "nbformat.sign", *(str(lab.root / name) for name in names)]
    subprocess.run(command, env=lab.env, check=True, capture_output=True)


def open_notebook(page: Page, lab: Lab, name: str) -> None:
    """Open a notebook in a workspace of its own, where no tab of an earlier test comes back, and run nothing."""
    page.goto(f"{lab.url}/lab/workspaces/{Path(name).stem}-{secrets.token_hex(4)}/tree/{name}?token={lab.token}")
    ready = "name => window.jupyterapp?.shell?.currentWidget?.context?.path === name"
    page.wait_for_function(ready, arg=name, timeout=90 * SECOND)
    page.evaluate("""async () => {
        await window.jupyterapp.restored;
        const notebook = window.jupyterapp.shell.currentWidget;
        await notebook.context.ready; await notebook.revealed; await notebook.sessionContext.ready; }""")


def run_all(page: Page) -> None:
    """Run every cell of the open notebook and wait for the last; AssertionError if JupyterLab says that one failed."""
    done = page.evaluate("async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')")
    assert done is True, "run-all-cells did not finish cleanly"


def save_and_shut_down(page: Page) -> None:
    """Save the open notebook and end its kernel, as at the end of a day."""
    page.evaluate("""async () => {
        const notebook = window.jupyterapp.shell.currentWidget;
        await notebook.context.save(); await notebook.sessionContext.shutdown(); }""")


def restart(page: Page) -> None:
    """Restart the kernel of the open notebook and wait until it is there again."""
    page.evaluate("""async () => {
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        await kernel.restart(); await kernel.info; }""")


def errors(page: Page) -> list[str]:
    """Return the errors among the outputs of the open notebook, of cells that are not meant to raise one."""
    return page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.widgets
        .filter(cell => cell.model.type === 'code')
        .filter(cell => !(cell.model.getMetadata('tags') || []).includes('raises-exception'))
        .flatMap(cell => cell.model.outputs.toJSON()).filter(output => output.output_type === 'error')
        .map(output => output.ename + ': ' + output.evalue)""")


def formulas(page: Page, width: int) -> tuple[int, list[str]]:
    """Typeset all the text of the open notebook at once; return how many formulas it has and what is wrong with them.

    Wrong is: what MathJax refuses; a macro that it does not know, which it writes in red; what stays in the text as it
    was typed; a displayed formula that has no room where the text is `width` pixels wide.
    """
    return page.evaluate(
        r"""async width => {
            const { rendermime, widgets } = window.jupyterapp.shell.currentWidget.content, wrong = [];
            const node = document.body.appendChild(document.createElement('div'));
            Object.assign(node.style, { position: 'absolute', visibility: 'hidden', width: width + 'px' });
            for (const cell of widgets.filter(cell => cell.model.type === 'markdown')) {
                const data = { 'text/markdown': cell.model.sharedModel.getSource() };
                const renderer = rendermime.createRenderer('text/markdown');
                await renderer.renderModel(rendermime.createModel({ data }));
                node.appendChild(renderer.node);
            }
            await rendermime.latexTypesetter.typeset(node);
            await document.fonts.ready;
            const found = [...node.querySelectorAll('mjx-container')];
            for (const formula of found) {
                if (formula.querySelector('mjx-merror, [style*="color: red"]')) wrong.push(formula.textContent);
                const over = formula.getAttribute('display') && formula.scrollWidth - formula.clientWidth;
                if (over > 0) wrong.push(over + ' pixels too wide: ' + formula.textContent);
            }
            node.querySelectorAll('mjx-container, code').forEach(part => part.remove());
            wrong.push(...node.textContent.split('\n').filter(line => /[$\\]/.test(line)));
            node.remove();
            return [found.length, wrong]; }""",
        width,
    )


def in_kernel(page: Page, code: str) -> str:
    """Run `code` in the open notebook's kernel, outside its cells, and return what it prints."""
    run = """async code => { let out = '';
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const future = kernel.requestExecute({code});
        future.onIOPub = message => { if (message.header.msg_type === 'stream') out += message.content.text; };
        await future.done; return out.trim(); }"""
    return page.evaluate(run, code)


def show_cell(page: Page, number: int) -> Locator:
    """Bring a cell of the open notebook on the screen and return it."""
    page.evaluate(
        """async number => { const cells = window.jupyterapp.shell.currentWidget.content;
            cells.activeCellIndex = number; await cells.scrollToItem(number, 'start'); }""",
        number,
    )
    return page.locator(".jp-Notebook .jp-Cell.jp-mod-active")


def run_cells(page: Page, numbers: Iterable[int]) -> None:
    """Run some cells of the open notebook, one after the other, and wait for each."""
    for number in numbers:
        show_cell(page, number)
        page.evaluate("async () => await window.jupyterapp.commands.execute('notebook:run-cell')")


def wide_cells(page: Page) -> list[str]:
    """Return the first line of each code cell of the open notebook that scrolls sideways, and by how many pixels.

    Code is set in one width: cells are looked at from the longest line down, until one fits. Folded cells do not count.
    """
    return page.evaluate(
        """async () => {
            const notebook = window.jupyterapp.shell.currentWidget.content, wide = [];
            const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            const text = cell => cell.model.sharedModel.getSource();
            const longest = cell => Math.max(...text(cell).split('\\n').map(line => line.length));
            const cells = notebook.widgets.map((cell, number) => [cell, number])
                .filter(([cell]) => cell.model.type === 'code' && !cell.inputHidden)
                .sort(([one], [other]) => longest(other) - longest(one));
            for (const [cell, number] of cells) {
                await notebook.scrollToItem(number, 'start');
                await frame();
                const scroller = cell.node.querySelector('.cm-scroller');
                const over = scroller.scrollWidth - scroller.clientWidth;
                if (over <= 0) break;
                wide.push(`${over} pixels: ${text(cell).split('\\n')[0]}`);
            }
            return wide; }"""
    )


def folded_cells(page: Page) -> list[str]:
    """Return the ids of the code cells of the open notebook whose input is folded."""
    return page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.widgets
        .filter(cell => cell.model.type === 'code' && cell.inputHidden).map(cell => cell.model.id)""")


def screens(page: Page, scroller: str, stem: Path) -> list[Path]:
    """Photograph a page screen by screen, from top to bottom of what scrolls in it, and return the files."""
    shots: list[Path] = []
    height = page.viewport_size["height"] - 100
    at = -1
    while (
        place := page.evaluate(
            "([s, y]) => { const e = document.querySelector(s); e.scrollTop = y; return e.scrollTop; }",
            [scroller, len(shots) * height],
        )
    ) > at:
        page.wait_for_timeout(SECOND // 2)
        shots.append(stem.with_name(f"{stem.name}_{len(shots):02d}.png"))
        page.screenshot(path=shots[-1])
        at = place
    return shots


def explorer_cells(notebook: Path) -> list[int]:
    """Return the numbers of the cells whose stored output is an explorer."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [k for k, cell in enumerate(cells) if "data-explorer=" in str(cell.get("outputs", ""))]


def lessons_with_explorers() -> list[Path]:
    """Return the lessons that show an explorer."""
    lessons = [course.NOTEBOOKS / lesson.notebook for lesson in course.written()]
    return [lesson for lesson in lessons if explorer_cells(lesson)]


def wait_until_drawn(figure: Locator) -> None:
    """Return once the explorer shows its sheet of frames and waits for nothing."""
    figure.locator(".explorer-image[aria-busy=false] [data-ready]").wait_for(timeout=60 * SECOND)


def change_after(figure: Locator, act: Callable[[], None]) -> bool:
    """Do `act` and tell whether image and alt text of the explorer both become others within a minute."""
    before = shown(figure)
    act()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if all(new != old for new, old in zip(shown(figure), before, strict=True)):
            return True
        time.sleep(0.05)
    return False


def shown(figure: Locator) -> tuple[bytes, str]:
    """Return the pixels and the alt text of an explorer's image, taken while it waits for nothing."""
    image = figure.locator(".explorer-image")
    while True:
        wait_until_drawn(figure)
        pixels, text = image.screenshot(animations="disabled"), alt_text(figure)
        if image.get_attribute("aria-busy") == "false":
            return pixels, text


def alt_text(figure: Locator) -> str:
    """Return the alt text of the frame shown; the background below it has none."""
    return figure.locator(".explorer-image img").last.get_attribute("alt")


def controls(figure: Locator) -> list[Locator]:
    """Return the controls of an explorer that can be used here, in order, once it has drawn itself."""
    wait_until_drawn(figure)
    enabled = figure.locator("[data-control]:enabled")
    return [enabled.nth(k) for k in range(enabled.count())]


def move(control: Locator, image: Path) -> None:
    """Use one control as a reader would: a key on a slider or list, a file for a file control."""
    form = control.evaluate("node => node.tagName === 'SELECT' ? 'select' : node.type")
    if form == "file":
        control.set_input_files(image)
        return
    at_end = "node => node.tagName === 'SELECT' ? node.selectedIndex === node.length - 1 : node.value === node.max"
    back, on = ("ArrowUp", "ArrowDown") if form == "select" else ("ArrowLeft", "ArrowRight")
    control.focus()
    control.press(back if control.evaluate(at_end) else on)


def move_all(figure: Locator, files: Path | None) -> int:
    """Move every control that can be used; return how many; AssertionError where the image stays."""
    wait_until_drawn(figure)
    usable = controls(figure)
    for control in usable:
        label = control.get_attribute("aria-label")
        act = lambda control=control: move(control, files and files / "good.png")  # noqa: E731
        assert change_after(figure, act), label
    return len(usable)


def moved_in_page(browser: Browser, path: Path) -> int:
    """Move every control of an exported page, opened from the disk without a network; return how many moved."""
    context = browser.new_context(viewport=VIEW, offline=True)
    page, asked, broken = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: broken.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(path.as_uri())
    figures = page.locator("figure.diffusion-explorer")
    moved = sum(move_all(figures.nth(k), None) for k in range(figures.count()))
    for figure in figures.all():
        greyed = figure.locator("[data-control]:disabled").count()
        assert figure.get_by_text("needs a running kernel").count() == bool(greyed)
    context.close()
    assert not broken, broken
    assert not [url for url in asked if url.split(":")[0] not in ("file", "data", "blob")], asked
    return moved
