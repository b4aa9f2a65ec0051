"""The command ``regagent``: it registers a user's own images by a trained agent, without the pipeline."""
