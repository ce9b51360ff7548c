"""Error probabilities and what they buy: bounds, e-processes, schedules and the ledger that pays for them.

Import from the modules; this package imports nothing by itself, because ``betting`` compiles kernels and the command
line must answer ``--help`` at once.

* ``binomial``: exact limits and tests of a failure rate (Clopper-Pearson; fixed-sequence testing).
* ``order_statistics``: distribution-free bounds on quantiles, and thresholds that a further value rarely exceeds.
* ``hoeffding``: the radii and the weight schedule of Safe-PCE.
* ``ledger``: who spends which part of delta.
* ``betting``: time-uniform bounds on means and e-processes for intervals of means.
* ``running_mean``: time-uniform bounds on the average of means that move.
"""
