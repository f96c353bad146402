"""Where the rooms are put together: the only place that knows them all."""
