"""Find a Chromium for the browser tests, or install one: ``python tests/browser/chromium.py`` (run by ``make test``).

An installed browser is taken as it is. Without one, root on Debian or Ubuntu gets the distribution's package, everybody else
playwright's own build. Exits with 1 and one sentence if none can be had.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ADVICE = "Install Chromium or Google Chrome so that one of {names} is on the PATH, and try again."


def find_browser() -> str | None:
    """Return the path of an installed browser."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))
    builds = [*folder.glob("chromium-*/chrome-linux*/chrome"), *folder.glob("chromium-*/chrome-mac*/*.app/*/*/*")]
    return str(sorted(builds)[-1]) if builds else None


def install_commands() -> list[list[list[str]]]:
    """Return the ways to install a browser here, the better one first; each is a list of commands."""
    playwright = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    debian = [["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]]
    may_install = shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0
    return [debian, playwright] if may_install else [playwright]


def ensure_browser() -> tuple[str | None, list[str]]:
    """Return the path of a browser, installed if need be, and what was tried."""
    tried = []
    for commands in install_commands():
        if path := find_browser():
            return path, tried
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            tried.append(f"`{' '.join(command)}` ended with {done.returncode}")
            if done.returncode != 0:
                break
    return find_browser(), tried


def main() -> int:
    """Print where the browser is, or why there is none."""
    path, tried = ensure_browser()
    if path is None:
        names = ", ".join(NAMES)
        print(f"No browser for the tests: looked for {names}; {'; '.join(tried)}. {ADVICE.format(names=names)}")
        return 1
    print(f"browser for the tests: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
