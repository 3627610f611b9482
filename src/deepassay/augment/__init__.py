"""Drawing random parameters for manipulations and channel changes in training."""
