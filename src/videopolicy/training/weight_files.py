"""Names of the files that trained weights consist of."""

WEIGHTS, CONFIG, NORMALIZATION = "weights.safetensors", "config.json", "normalization.json"
