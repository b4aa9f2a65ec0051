"""Train Stable-Baselines3's PPO on registrations, and hold it against an agent that acts at random.

pip install stable-baselines3 (in `make`'s environment it is there), then: python docs/examples/ppo.py
"""

import sys

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import regagent.agent.registration_environment  # noqa: F401 # registers the environment
from regagent.pairs.simulated import simulated_pairs

SMALL = gymnasium.spaces.Box(0.0, 1.0, (2, 42, 42), np.float32)


def make(pairs) -> gymnasium.Env:
    """Return registrations of pairs whose images are a quarter as wide, channels first."""
    full = gymnasium.make("regagent/Registration-v0", pairs=pairs)
    return gymnasium.wrappers.TransformObservation(
        full, lambda image: image.reshape(42, 4, 42, 4, 2).mean((1, 3)).transpose(2, 0, 1), SMALL
    )


def distance_left(env: gymnasium.Env, act, episodes: int = 40, steps: int = 30) -> float:
    """Return the mean D in px that is left after some steps of an agent."""
    left = []
    for seed in range(episodes):
        (state, info), ended = env.reset(seed=seed), False
        for _ in range(steps):
            if not ended:
                state, _, ended, _, info = env.step(act(state))
        left.append(info["distance"])
    return float(np.mean(left))


def main(steps: int) -> tuple[float, float]:
    """Train; print and return what is left by PPO and by chance."""
    pairs, draw = simulated_pairs(), np.random.default_rng(0)
    several = make_vec_env(lambda: make(pairs), 8)
    policy = {"normalize_images": False}  # they are in [0, 1] already
    model = PPO("CnnPolicy", several, policy_kwargs=policy, n_steps=64, gamma=0.7, seed=1)
    chance = distance_left(make(pairs), lambda state: int(draw.integers(8)))
    model.learn(steps)
    trained = distance_left(make(pairs), lambda state: int(model.predict(state)[0]))
    print(f"D after 30 steps: {trained:.1f} px by PPO of {steps} steps, {chance:.1f} px at random")
    return trained, chance


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24_000)
