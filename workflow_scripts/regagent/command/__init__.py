"""The command ``regagent``: a trained agent for a reader's own images, without the pipeline."""
