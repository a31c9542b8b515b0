"""Any smooth gate before experts with linear predictors: derivatives of the gate by autograd, others by products."""
