"""Names of the files that one part of my3dgen writes and another reads."""

ADAPTER = "me.safetensors"  # a person's adapter
FITTED = "me.json"  # beside it: "seconds" and "id_sim" of the personalization that made it
READY = "ready"  # beside it: a folder with results made beforehand (my3dgen.evaluation.ready)
