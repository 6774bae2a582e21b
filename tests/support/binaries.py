"""Where the browser is: apart from `browsing`, which takes long to import."""

import os
import shutil


def chromium() -> str | None:
    """Return the path of a Chromium, or None: $CHROMIUM, or the first on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
