"""What versions see and say, watched: prediction log, feedback, quality, drift, guard. Never on a request's path."""
