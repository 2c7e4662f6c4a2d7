"""The configuration of a run, composed of the rooms' settings; layers in, fully resolved YAML out."""
