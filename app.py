"""My3DGen's page: `python app.py`, or as a Hugging Face Space."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is measured

from my3dgen.studio.app import main  # noqa: E402

if __name__ == "__main__":
    main()
