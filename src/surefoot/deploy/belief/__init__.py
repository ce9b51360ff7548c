"""The agent that is rehearsed: a belief about the real task, and what it plays.

``kernels`` updates the latents and chooses the mixture, compiled; ``planner`` keeps the sums and says when a new mixture is due.
"""
