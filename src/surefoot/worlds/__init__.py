"""Task families on models and records that others published: what is theirs, and what about the families is ours, stands in each module.

:mod:`surefoot.worlds.diabetes`: insulin for one person with type-1 diabetes, on the model of Hovorka et al. 2004.
:mod:`surefoot.worlds.sepsis`: treatment of sepsis in intensive care, on the kernel of the package ``icu-sepsis``.
"""
