"""Log-likelihoods with derivatives, one folder a form of model; ``choose.py`` says which serves a model."""
