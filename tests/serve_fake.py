"""Serves the page over the stand-in models; run by the tests in a process of its own."""

import os
import sys
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import fake_backend  # noqa: E402

from my3dgen.studio import app, examples  # noqa: E402

if __name__ == "__main__":
    fake_backend.install()
    if folder := os.environ.get("TEST_EXAMPLES"):
        examples.FOLDER = Path(folder)
    app.main()
