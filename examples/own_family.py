# ruff: noqa: T201
"""Train and deploy on a family of your own: a machine with a buffer, where the rate of arriving jobs is not known.

The code below is the example of the README, line for line.
"""

import numpy as np

import surefoot as sf


class Queue:
    """A machine with a buffer of five jobs. How often jobs arrive is not known beforehand."""

    name, parameter_names, support = "queue", ("arrivals",), np.array([[0.2, 0.6]])
    criterion = sf.Criterion(discount=0.9, cost_limits=[4.0], reward_bounds=(0.0, 1.0), cost_bounds=[1.0])

    def sample(self, n, rng):  # what you believe about the unknown rate
        return rng.uniform(0.2, 0.6, size=(n, 1))

    def cmdp(self, parameters):  # your simulator, for one value of it
        kernel = np.zeros((6, 2, 6))
        for jobs in range(6):
            for action, served in enumerate((0.3, 0.8)):  # slow, fast
                up, down = parameters[0] * (1 - served), (1 - parameters[0]) * served
                for change, chance in ((1, up), (-1, down), (0, 1 - up - down)):
                    kernel[jobs, action, np.clip(jobs + change, 0, 5)] += chance
        rewards = np.tile([1.0, 0.0], (6, 1))  # running slowly saves energy
        costs = np.tile(np.arange(6.0)[:, None] / 5, (1, 1, 2))  # jobs that wait
        return sf.TabularCMDP(kernel, rewards, costs, cost_limits=[4.0], start=np.full(6, 1 / 6), discount=0.9)

    def safe_policy(self):  # the controller you run today: always fast
        return np.tile([0.0, 1.0], (6, 1))


policy_set = sf.train(Queue(), tasks=500, holdout=400, cells=30, delta=0.05, seed=0)
agent = sf.CertifiedAgent(policy_set, trust="cells", evidence="returns", delta=0.05, seed=0)

plant = sf.Simulator(Queue().cmdp([0.37]), list(agent.policies))  # stands in for the real machine
for _ in range(200):
    batch = agent.ask(20)  # which policy each of 20 episodes is to run
    seen = plant.run(batch.policy_index, seed=1, first_episode=int(batch.ids[0]))
    agent.tell(batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states)

print(agent.status().text)
