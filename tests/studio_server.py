"""Serves the page for the tests, in a process of its own: `studio_server.py fake` or `quick`.

fake: over the stand-in models of fake_backend.py. quick: over the real ones, with few steps.
Every connection to another machine is printed as a line that begins with EXTERNAL.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_MCP_SERVER"] = "True"  # somebody's environment asks for it; the app must refuse
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

LOCAL = ("127.", "localhost", "::1", "0.0.0.0")


def _watch(event: str, details: tuple) -> None:
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    target = details[1 if event == "socket.connect" else 0]
    host = target[0] if isinstance(target, tuple) else target
    if isinstance(host, str) and not host.startswith((*LOCAL, "/")):
        print("EXTERNAL", event, flush=True)


def _quick() -> None:
    """The real models, fitting in a few steps."""
    from my3dgen.personal.hull import HullOptions
    from my3dgen.personal.project import ProjectOptions

    def shorten(options):
        usual = options.for_prior

        def few(prior):
            return dataclasses.replace(usual(prior), steps=4, coarse_steps=2)

        options.for_prior = staticmethod(few)

    shorten(ProjectOptions)
    shorten(HullOptions)


if __name__ == "__main__":
    sys.addaudithook(_watch)
    from my3dgen.studio import app, examples, registry

    if sys.argv[1] == "fake":
        import fake_backend

        fake_backend.install()
        registry.LEFT_SECONDS, registry.SWEEP_SECONDS = 5.0, 1.0  # nobody waits minutes here
    else:
        _quick()
    if folder := os.environ.get("TEST_EXAMPLES"):
        examples.FOLDER = Path(folder)
    app.main()
