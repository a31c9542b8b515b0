# Standard errors of mixtures of two regressions by R's flexmix: the reference of tests/estimators/test_inference_flexmix.py.
# Run from the root of the project: Rscript tests/estimators/reference/flexmix_fits.R
# Writes flexmix_fits.csv beside this file. Obtained with R 4.2.2 and flexmix 2.3-18.
#
# flexmix's own M-step divides by residual degrees of freedom, so its EM does not end at the maximum of the likelihood;
# refit() climbs from there by BFGS (log(sigma) inside) and inverts the numerical Hessian. The tolerances are tightened,
# the step of the numerical differences lowered from 1e-3 to 1e-5, and refit() repeated from its own end.
suppressMessages(library(flexmix))

here <- "tests/estimators/reference"
tone <- read.csv("mixkit/datasets/tone.csv")
lines <- read.csv(file.path(here, "crossing_lines.csv"))

standard_errors <- function(name, gate, formula, data, concomitant, cluster) {
  mixture <- flexmix(formula, data = data, k = 2, cluster = cluster, concomitant = concomitant,
                     control = list(tolerance = 1e-15, iter.max = 10000, minprior = 0))
  for (round in 1:3) {
    size <- length(flexmix:::FLXgetParameters(mixture))
    found <- flexmix:::VarianceCovariance(mixture, optim_control = list(reltol = 1e-16, maxit = 10000, ndeps = rep(1e-5, size)))
    mixture <- flexmix:::FLXreplaceParameters(mixture, found$coef)
  }
  llf <- flexmix:::FLXlogLikfun(mixture)(found$coef)
  data.frame(data = name, gate = gate, llf = format(llf, digits = 15), parameter = names(found$coef),
             estimate = format(found$coef, digits = 12, trim = TRUE),
             std_error = format(sqrt(diag(found$vcov)), digits = 12, trim = TRUE))
}

near_two <- ifelse(abs(tone$tuned - 2) < 0.05, 1, 2)
nearer <- ifelse(abs(lines$y - 15 + 20 * lines$x) < abs(lines$y + 5 - 20 * lines$x), 1, 2)
rows <- rbind(
  standard_errors("tone", "constant", tuned ~ stretchratio, tone, FLXPconstant(), near_two),
  standard_errors("tone", "softmax", tuned ~ stretchratio, tone, FLXPmultinom(~ stretchratio), near_two),
  standard_errors("lines", "constant", y ~ x, lines, FLXPconstant(), nearer),
  standard_errors("lines", "softmax", y ~ x, lines, FLXPmultinom(~ x), nearer))
write.csv(rows, file.path(here, "flexmix_fits.csv"), row.names = FALSE, quote = FALSE)
