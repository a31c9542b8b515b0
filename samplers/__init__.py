"""How a law is decoded: lossless speculative and multi-draft samplers."""
