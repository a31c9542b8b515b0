"""Models of other libraries in the decoding loop: ``huggingface.py`` for transformers."""
