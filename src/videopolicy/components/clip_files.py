"""What CLIP's text encoder is loaded from, for the component and the module alike."""

CLIP = "CLIP's text encoder"
CLIP_FILES = ("config.json", "model*.safetensors", "pytorch_model.bin", "tokenizer*.json", "vocab.json", "merges.txt")
