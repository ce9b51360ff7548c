"""How long a deployment will take: the real agent on plants that are made of a policy set's predictions, and what can be proved about it.

* ``forecast``: what deployments take on plants that follow the predictions.
* ``sample_complexity``: theorem T9, the most episodes that can be worse than eps-optimal under ``cells``.
"""
