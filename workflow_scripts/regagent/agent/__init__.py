"""The agents: environment, networks, training by A3C, the stop rule and the look-ahead (§3)."""
