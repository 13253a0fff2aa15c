"""The projector: folds the instance log into the store, in a process of its own."""
