"""How a mixture of experts is learned: EM, maximum likelihood, standard errors, the scikit-learn face."""
