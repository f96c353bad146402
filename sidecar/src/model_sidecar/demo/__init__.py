"""A story told with real things: real digits, a trained classifier, a `serve` process, traffic, and one bad release."""
