"""No test asks a hub, however it is started: the libraries read this when they are imported."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
