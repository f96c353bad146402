"""Evidence that something is no longer as it was: detectors whose false alarms have a bound, whatever they are shown."""
