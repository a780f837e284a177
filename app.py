"""My3DGen's page: `python app.py`, or as a Hugging Face Space."""

import os

from my3dgen.studio.folders import own_folder

# Before gradio is imported: nothing is measured, and visitors' files lie where no other account can look.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# it would keep who called what; none at all is no choice there
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
if not os.environ.get("GRADIO_TEMP_DIR"):
    os.environ["GRADIO_TEMP_DIR"] = str(own_folder())

from my3dgen.studio.app import main  # noqa: E402

if __name__ == "__main__":
    main()
